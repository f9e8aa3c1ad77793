# Every part of Tokenpulse is this image with another command: docs/deploy.md.
# The embedded broker and Redis of `make up` are not in it.

FROM python:3.11.15-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
RUN python -m venv /opt/tokenpulse
# Before the code, so that a change of the code installs nothing again. Wheels only: nothing that
# is fetched runs before its hash was compared, and no compiler is needed. The two secrets are for
# an index of your own (docs/deploy.md); they are in no layer.
COPY requirements-image.lock ./
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    /opt/tokenpulse/bin/pip install --only-binary=:all: --no-compile --require-hashes \
    --requirement requirements-image.lock
COPY pyproject.toml README.md ./
COPY streams streams
COPY slo slo
COPY exporters exporters
# exporters/drill/runbooks is a link to it.
COPY docs/runbooks docs/runbooks
COPY alerts alerts
COPY tokenpulse tokenpulse
# Hashes instead of times in the byte code: the same sources give the same files.
RUN /opt/tokenpulse/bin/pip install --no-compile --no-deps --no-build-isolation . \
    && /opt/tokenpulse/bin/pip check \
    && /opt/tokenpulse/bin/pip uninstall --yes pip \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/tokenpulse/lib

FROM python:3.11.15-slim-bookworm
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tokenpulse" \
      org.opencontainers.image.description="Real-time reliability monitor for companies that serve LLMs over an API" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# /rules: where `tokenpulse rules build` leaves what Prometheus reads.
RUN groupadd --gid 10001 tokenpulse \
    && useradd --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin tokenpulse \
    && install --directory --owner=10001 --group=10001 /rules
COPY --from=build /opt/tokenpulse /opt/tokenpulse
ENV PATH="/opt/tokenpulse/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
# What is healthy depends on the command: docker-compose.yml.
HEALTHCHECK NONE
ENTRYPOINT ["tokenpulse"]
CMD ["--help"]
