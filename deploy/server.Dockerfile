# A network's server: docker build -f deploy/server.Dockerfile -t symphony-server .
# It holds no model. Its folder /network is a volume: certificates, credentials, database, admitted devices.
FROM python:3.11-slim
# Torch without CUDA's libraries, several GB less: --build-arg TORCH="torch==2.13.0 --index-url ITS_CPU_INDEX"
ARG TORCH=torch==2.13.0
RUN useradd --create-home --uid 1000 symphony && mkdir -m 700 /network && chown symphony /network
WORKDIR /app/symphony-fl
COPY --chown=symphony . .
RUN pip install --no-cache-dir $TORCH && pip install --no-cache-dir -e .
USER symphony
ENV SYMPHONY_HOME=/network/symphony
VOLUME /network
EXPOSE 9092
ENTRYPOINT ["symphony", "network", "/network", "--host", "0.0.0.0"]
