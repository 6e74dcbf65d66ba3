// A Kerbside file on Android: a Bitmap in, a class id a pixel out. Not run here: there is no Android device or SDK
// where this project is tested. It uses nothing but org.tensorflow.lite.Interpreter of the LiteRT package.
package example.kerbside

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.Rect
import java.io.Closeable
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/** How an image of another shape than the model's comes before it: the names and the rule of runtime/fit.py. */
enum class Fit { AUTO, LETTERBOX, STRETCH, TILES }

/** Class ids of an image, row by row, `height * width` of them, of the image's own aspect and nothing around it. */
class Mask(val ids: ByteArray, val height: Int, val width: Int)

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

    /** Class ids of the image: at the size at which the model saw it, which has the image's aspect but for STRETCH. */
    fun segment(image: Bitmap, fit: Fit = Fit.AUTO): Mask {
        val way = if (fit == Fit.AUTO) chosen(image) else fit
        val (rows, columns) = inner(image, way)
        val (tops, lefts) = Pair(starts(rows, height), starts(columns, width))
        if (way == Fit.TILES) {
            require(tops.size * lefts.size <= MOST_WINDOWS) { "the image takes more than $MOST_WINDOWS tiles" }
        }
        val (down, across) = Pair(max(0, height - rows) / 2, max(0, width - columns) / 2) // of a letterbox's border
        val all = ByteArray(rows * columns)
        for ((row, top) in tops.withIndex()) for ((column, left) in lefts.withIndex()) {
            run(shown(image, Rect(across - left, down - top, across - left + columns, down - top + rows)))
            // Each pixel is taken from the window in which it lies most centrally.
            val (first, last) = own(tops, row, height, rows)
            val (from, to) = own(lefts, column, width, columns)
            for (y in first until last) {
                ids.position((y - top + down) * width + from - left + across)
                ids.get(all, y * columns + from, to - from)
            }
        }
        return Mask(all, rows, columns)
    }

    /** Tiles beyond twice and 0.6 times the model's aspect, else letterbox for a wider image and stretch for a narrower. */
    private fun chosen(image: Bitmap): Fit {
        val wider = image.width.toDouble() * height / (image.height.toDouble() * width)
        if (wider in 0.6..2.0) return if (wider > 1) Fit.LETTERBOX else Fit.STRETCH
        val (rows, columns) = inner(image, Fit.TILES)
        val count = starts(rows, height).size * starts(columns, width).size
        return if (count <= MOST_WINDOWS) Fit.TILES else Fit.LETTERBOX
    }

    /** Rows and columns of the image before the model. */
    private fun inner(image: Bitmap, way: Fit): Pair<Int, Int> {
        val (down, across) = Pair(image.height / height.toDouble(), image.width / width.toDouble())
        val (less, more) = Pair(min(down, across), max(down, across))
        val scale = when (way) {
            Fit.LETTERBOX -> 1 / more
            Fit.TILES -> max(1.0, 1.3 * less / more) / less // one side 1.3 times the model's at least
            else -> return Pair(height, width)
        }
        val found = Pair((image.height * scale).roundToInt(), (image.width * scale).roundToInt())
        return if (way == Fit.TILES) Pair(max(height, found.first), max(width, found.second))
        else Pair(max(1, found.first), max(1, found.second))
    }

    /** Where windows begin that cover `length` evenly, each over a quarter of the one before it at least. */
    private fun starts(length: Int, side: Int): List<Int> {
        val step = max(1, side * 3 / 4)
        val steps = max(0, (length - side + step - 1) / step)
        return List(steps + 1) { if (steps == 0) 0 else (it.toDouble() * (length - side) / steps).roundToInt() }
    }

    /** Of windows along one axis, the part of `length` whose nearest middle is that of number `index`. */
    private fun own(starts: List<Int>, index: Int, side: Int, length: Int): Pair<Int, Int> {
        fun between(one: Int) = (starts[one] + starts[one + 1] + side) / 2
        return Pair(
            if (index == 0) 0 else between(index - 1),
            if (index == starts.size - 1) length else between(index),
        )
    }

    /** What one window shows: the image drawn to `place`, grey where it does not reach. */
    private fun shown(image: Bitmap, place: Rect): Bitmap {
        val window = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
        val canvas = Canvas(window)
        canvas.drawColor(Color.rgb(128, 128, 128))
        canvas.drawBitmap(image, null, place, Paint(Paint.FILTER_BITMAP_FLAG))
        return window
    }

    /** The model on one window of its own size, into `ids`. */
    private fun run(window: Bitmap) {
        window.getPixels(pixels, 0, width, 0, 0, width, height)
        rgb.rewind()
        for (pixel in pixels) {
            rgb.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
        }
        rgb.rewind()
        ids.rewind()
        interpreter.run(rgb, ids)
    }

    override fun close() = interpreter.close()

    private companion object {
        const val MOST_WINDOWS = 32
    }

    private fun mapped(context: Context, asset: String): MappedByteBuffer =
        context.assets.openFd(asset).use { place ->
            FileInputStream(place.fileDescriptor).use { stream ->
                stream.channel.map(FileChannel.MapMode.READ_ONLY, place.startOffset, place.declaredLength)
            }
        }
}

/** The mask as an image: `palette[id]` is an ARGB colour. */
fun coloured(ids: ByteArray, width: Int, height: Int, palette: IntArray): Bitmap {
    val colours = IntArray(ids.size) { palette.getOrElse(ids[it].toInt() and 0xFF) { 0 } }
    return Bitmap.createBitmap(colours, width, height, Bitmap.Config.ARGB_8888)
}
