# One image for every process of Muster: `docker build -t muster .`, then `docker run muster serve command`, `relay`, …
# docker-compose.yml runs them all; docs/how-to/run-in-containers.md explains both.

# For a mirror, or pinned by digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.14-slim

# -- build: an environment with the locked packages and our wheel ------------------------------------------------------
FROM ${PYTHON_IMAGE} AS build

# Bytecode is compiled here, because nothing can be written later; uv uses only the image's interpreter.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_NO_CONFIG=1 \
    UV_PYTHON_DOWNLOADS=never

# For networks with an index of their own: --build-arg PIP_INDEX_URL=… --build-arg UV_DEFAULT_INDEX=…
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
# And for those with a Maven repository of their own.
ARG MUSTER_MAVEN_REPOSITORY

WORKDIR /build
COPY requirements/audit.txt requirements/bootstrap.txt requirements/service.txt requirements/
# Only wheels: no compiler is needed, and no package's setup.py runs.
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --require-hashes --only-binary :all: -r requirements/bootstrap.txt \
    && /build/tools/bin/uv venv --python /usr/local/bin/python3 /opt/muster \
    && /build/tools/bin/uv pip install --python /opt/muster --require-hashes --only-binary :all: -r requirements/service.txt \
    && python -m venv --without-pip /build/audit \
    && /build/tools/bin/uv pip install --python /build/audit --require-hashes --only-binary :all: -r requirements/audit.txt

# After the packages, which change less often than our code. .dockerignore lets only the wheel's content through.
COPY . .
RUN /build/tools/bin/python -m hatchling build --target wheel --directory dist \
    && /build/tools/bin/uv pip install --python /opt/muster --no-deps dist/*.whl \
    && /build/audit/bin/cyclonedx-py environment /opt/muster/bin/python --output-file /opt/muster/muster.cdx.json

# -- what runs ---------------------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE}

LABEL org.opencontainers.image.title="Muster" \
      org.opencontainers.image.description="Event-driven CQRS user service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

# USER below is a number, so that an orchestrator can see that it is not root; the user has no home, and owns nothing but
# empty folders, over which docker-compose.yml has the volumes of secrets.
RUN groupadd --gid 10001 muster \
    && useradd --no-log-init --uid 10001 --gid muster --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin muster \
    && install --directory --owner=muster --group=muster --mode=0755 \
        /secrets/issuer /secrets/postgres /secrets/kafka /secrets/migrate \
        /secrets/command-api /secrets/query-api /secrets/event-api /secrets/relay /secrets/projectors /secrets/console /secrets/operator

COPY --from=build /opt/muster /opt/muster

ENV PATH=/opt/muster/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# An empty folder; a `.env` that is mounted here is read. Only an API with several workers writes, and only to /tmp.
WORKDIR /srv/muster
USER 10001:10001

# For any of the processes: the probe asks the inner port on which one says how it is (cli/processes/probe.py).
# On a machine that is busy the engine and Python take seconds to start it, and a process minutes to be ready.
HEALTHCHECK --interval=10s --timeout=15s --start-period=180s --retries=3 CMD ["python", "-m", "cli.processes.probe"]

# Without a shell, so that SIGTERM reaches the process.
STOPSIGNAL SIGTERM
ENTRYPOINT ["muster"]
CMD ["--help"]
