# The image holds one static program and the certificate authorities of Debian, nothing else: no shell, no package manager.
#   docker build -t datapulse .
#   docker run --read-only --cap-drop ALL -p 127.0.0.1:9893:9893 -v ./datapulse.yml:/etc/datapulse/datapulse.yml:ro -v datapulse:/var/lib/datapulse datapulse

# The version of rust-toolchain.toml; tests/it/compose.rs holds the two together.
FROM rust:1.95.0-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY . .
# glibc has had its name look-ups by files and DNS inside since 2.34, so a static program finds hosts as any other does. A target is
# named so that the flag does not reach programs that run while building.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" \
    && cargo build --release --locked --target "$target" \
    && install -D "target/$target/release/datapulse" /image/usr/bin/datapulse
# What the last stage cannot make: a folder of the service's own for its state, and one that a mount fills.
RUN install -d -o 65532 -g 65532 -m 0700 /image/var/lib/datapulse \
    && install -d -m 0755 /image/etc/datapulse /image/etc/ssl/certs \
    && install -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && install -D -m 0644 LICENSE /image/usr/share/doc/datapulse/copyright

FROM scratch
LABEL org.opencontainers.image.title="datapulse" \
      org.opencontainers.image.description="Prometheus and OpenTelemetry exporter for data services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /image/ /
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 9893
VOLUME /var/lib/datapulse
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/bin/datapulse", "healthy", "--web.listen-address=127.0.0.1:9893"]
ENTRYPOINT ["/usr/bin/datapulse"]
CMD ["serve", "--config.file=/etc/datapulse/datapulse.yml", "--web.listen-address=0.0.0.0:9893"]
