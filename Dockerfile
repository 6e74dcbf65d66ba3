# The page in a container, as a user without rights on a disk that may be read-only, or with --target serve the server of
# examples/serving. Not run here: see docs/how-to/deploy.md.
# A tag may come to name another image. To hold to one, put its digest behind the tag, as
#   docker buildx imagetools inspect python:3.11-slim-bookworm
# prints it (FROM python:3.11-slim-bookworm@sha256:...), and look for a newer one now and then: it has no fixes after it.
# None stands here, because none was seen where this was written.
FROM python:3.11-slim-bookworm AS base

# What OpenCV's wheel links against and the slim image lacks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 visitor
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /kerbside
COPY LICENSE NOTICE requirements-runtime.txt ./

# docker build --target serve -t kerbside-serve .
FROM base AS serve
COPY requirements-serve.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements-serve.txt
COPY examples/serving/server.py examples/serving/
COPY runtime runtime
COPY models/*.tflite models/
USER visitor
ENV PYTHONPATH=/kerbside
EXPOSE 8600
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8600/health')"]
ENTRYPOINT ["python", "examples/serving/server.py"]
CMD ["models/deeplabv3_mobilenet_edgetpu_cityscapes_int8.tflite", "--host", "0.0.0.0", "--port", "8600"]

# The last stage is what docker build makes: the page.
FROM base AS page
COPY requirements-app.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements-app.txt

COPY streamlit_app.py ./
COPY .streamlit .streamlit
COPY app app
COPY runtime runtime
COPY evaluation/__init__.py evaluation/metrics.py evaluation/
COPY examples/*.jpg examples/
COPY examples/masks examples/masks
COPY docs/models docs/models
COPY models/*.tflite models/

USER visitor
ENV KERBSIDE_FEEDBACK=off
EXPOSE 8501
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health')"]
CMD ["streamlit", "run", "streamlit_app.py", "--server.headless", "true", "--server.address", "0.0.0.0", "--server.port", "8501"]
