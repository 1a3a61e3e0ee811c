# syntax=docker/dockerfile:1
# Both images of DRSE. The names are those of the Helm chart's defaults:
#
#   docker build --target operator   --tag drse-operator:0.2.0   .
#   docker build --target forecaster --tag drse-forecaster:0.2.0 .
#
# Each holds a virtual environment at /opt/drse with exactly what uv.lock says, and runs as user 65532 on a
# read-only root: only /tmp is written to.

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG UV_IMAGE=ghcr.io/astral-sh/uv:0.13

FROM ${UV_IMAGE} AS uv

FROM ${PYTHON_IMAGE} AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PROJECT_ENVIRONMENT=/opt/drse \
    UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy
WORKDIR /src
# Dependencies in a layer of their own: they change far less often than the code.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-install-project

FROM build AS build-operator
COPY README.md LICENSE ./
COPY operator operator
COPY forecaster forecaster
COPY local local
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable

FROM build-operator AS build-forecaster
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable --extra forecaster

FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/drse/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /

FROM runtime AS operator
COPY --from=build-operator /opt/drse /opt/drse
EXPOSE 8080
ENTRYPOINT ["drse-operator"]
CMD ["run"]

FROM runtime AS forecaster
# Its matrices are small: more BLAS threads than one only wait for each other.
ENV OPENBLAS_NUM_THREADS=1
COPY --from=build-forecaster /opt/drse /opt/drse
EXPOSE 8090
ENTRYPOINT ["drse-forecaster"]
CMD ["serve"]
