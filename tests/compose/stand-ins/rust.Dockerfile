# This machine's Rust under the published name.
ARG BASE_IMAGE=docker.io/library/debian:trixie-slim
FROM ${BASE_IMAGE}
COPY bin /usr/local/bin
COPY lib /usr/local/lib
COPY authorities.crt /usr/local/share/authorities.crt
ENV CARGO_HOME=/usr/local/cargo CARGO_HTTP_CAINFO=/usr/local/share/authorities.crt
