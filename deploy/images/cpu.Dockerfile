# syntax=docker/dockerfile:1
# Control, gateway, operator, Ray's head, and engines on CPUs.
ARG BASE=python:3.11-slim-bookworm

# Everything that changes seldom: Python, engine and libraries, as constraints.txt has them.
FROM ${BASE} AS libraries
WORKDIR /opt/computility
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
COPY LICENSE constraints.txt pyproject.toml ./
COPY tools/setup.sh tools/engine_requirements.py tools/
RUN COMPUTILITY_SETUP_ENGINE=cpu COMPUTILITY_SETUP_EXTRAS=postgres,ray,train,tracing,operator PIP_NO_CACHE_DIR=1 \
    bash tools/setup.sh

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap g++ libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 computility \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp computility
WORKDIR /opt/computility
COPY --from=libraries /opt/computility ./
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
