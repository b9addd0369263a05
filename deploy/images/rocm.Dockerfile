# syntax=docker/dockerfile:1
# Nodes with GPUs of AMD: on a vLLM image of the vendor, which brings engine, torch and drivers' libraries.
#   BASE: an image with vLLM for ROCm and Python 3.11
ARG BASE
FROM ${BASE}
USER 0
WORKDIR /opt/computility
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/* \
    && (getent group 1000 || groupadd --gid 1000 computility) \
    && (getent passwd 1000 || useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp computility)
COPY LICENSE constraints.txt pyproject.toml ./
COPY tools/setup.sh tools/engine_requirements.py tools/
# Ends with what is missing where the base has no Python 3.11: all nodes of a Ray cluster need the same one.
RUN COMPUTILITY_SETUP_ENGINE=none COMPUTILITY_SETUP_EXTRAS=postgres,ray,train,tracing,operator PIP_NO_CACHE_DIR=1 \
    bash tools/setup.sh
# The product itself: the layer that changes with each version. The same folder in all images, as Ray's agents are started by it.
COPY common ./common
COPY scheduler ./scheduler
COPY inference ./inference
COPY finetune ./finetune
COPY jobs ./jobs
COPY batches ./batches
COPY billing ./billing
COPY control ./control
COPY operators ./operators
COPY examples ./examples
ENV PATH=/opt/computility/.venv/bin:$PATH \
    PYTHONPATH=/opt/computility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 1000:1000
ENTRYPOINT []
CMD ["computility", "--help"]
