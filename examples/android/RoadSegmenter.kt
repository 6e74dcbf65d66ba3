// A Kerbside file on Android: a Bitmap in, a class id a pixel out. Not run here: there is no Android device or SDK
// where this project is tested. It uses nothing but org.tensorflow.lite.Interpreter of the LiteRT package.
package example.kerbside

import android.content.Context
import android.graphics.Bitmap
import java.io.Closeable
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/**
 * One `mask` file: uint8 RGB (1, H, W, 3) in, uint8 class ids (1, H, W) out. Not thread-safe: one call at a time.
 *
 * @param asset the file's name in the app's assets
 */
class RoadSegmenter(context: Context, asset: String, threads: Int = 4) : Closeable {
    private val interpreter =
        Interpreter(mapped(context, asset), Interpreter.Options().setNumThreads(threads))
    val height: Int = interpreter.getInputTensor(0).shape()[1]
    val width: Int = interpreter.getInputTensor(0).shape()[2]

    private val pixels = IntArray(height * width)
    private val rgb = ByteBuffer.allocateDirect(3 * height * width).order(ByteOrder.nativeOrder())
    private val ids = ByteBuffer.allocateDirect(height * width).order(ByteOrder.nativeOrder())

    init {
        val taken = interpreter.getInputTensor(0)
        val given = interpreter.getOutputTensor(0)
        require(taken.dataType() == DataType.UINT8 && given.dataType() == DataType.UINT8 && given.shape().size == 3) {
            "$asset is no mask file of Kerbside: export it with --output mask"
        }
    }

    /** Class ids, row by row, `height * width` of them; the picture is scaled to the model's size. */
    fun segment(picture: Bitmap): ByteArray {
        val scaled = Bitmap.createScaledBitmap(picture, width, height, true)
        scaled.getPixels(pixels, 0, width, 0, 0, width, height)
        rgb.rewind()
        for (pixel in pixels) {
            rgb.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
        }
        rgb.rewind()
        ids.rewind()
        interpreter.run(rgb, ids)
        return ByteArray(height * width).also { ids.rewind(); ids.get(it) }
    }

    override fun close() = interpreter.close()

    private fun mapped(context: Context, asset: String): MappedByteBuffer =
        context.assets.openFd(asset).use { place ->
            FileInputStream(place.fileDescriptor).use { stream ->
                stream.channel.map(FileChannel.MapMode.READ_ONLY, place.startOffset, place.declaredLength)
            }
        }
}

/** The mask as a picture: `palette[id]` is an ARGB colour. */
fun coloured(ids: ByteArray, width: Int, height: Int, palette: IntArray): Bitmap {
    val colours = IntArray(ids.size) { palette.getOrElse(ids[it].toInt() and 0xFF) { 0 } }
    return Bitmap.createBitmap(colours, width, height, Bitmap.Config.ARGB_8888)
}
