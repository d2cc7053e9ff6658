# A device with an NVIDIA GPU: docker build -f deploy/agent-cuda.Dockerfile -t symphony-agent-cuda .
# pip's torch for Linux brings CUDA's libraries along. Run it with --gpus all; recipes name the device (model.device=cuda).
FROM python:3.11-slim
ARG TORCH=torch==2.13.0
RUN useradd --create-home --uid 1000 symphony && mkdir -m 700 /device && chown symphony /device
WORKDIR /app/symphony-fl
COPY --chown=symphony . .
RUN pip install --no-cache-dir "$TORCH" && pip install --no-cache-dir -e .
USER symphony
ENV SYMPHONY_CACHE=/device/cache
VOLUME /device
ENTRYPOINT ["symphony", "up", "--device", "/device", "--accelerator", "cuda"]
