# A device without an accelerator: docker build -f deploy/agent-cpu.Dockerfile -t symphony-agent .
FROM python:3.11-slim
# Torch without CUDA's libraries, several GB less: --build-arg TORCH="torch==2.13.0 --index-url ITS_CPU_INDEX"
ARG TORCH=torch==2.13.0
RUN useradd --create-home --uid 1000 symphony && mkdir -m 700 /device && chown symphony /device
WORKDIR /app/symphony-fl
COPY --chown=symphony . .
RUN pip install --no-cache-dir $TORCH && pip install --no-cache-dir -e .
USER symphony
ENV SYMPHONY_CACHE=/device/cache
VOLUME /device
ENTRYPOINT ["symphony", "up", "--device", "/device"]
