FROM python:3.12-slim
WORKDIR /app
COPY requirements/run.txt requirements/run.txt
RUN pip install --no-cache-dir --only-binary :all: --no-binary dkimpy --require-hashes -r requirements/run.txt \
    && useradd --system --uid 1000 --home-dir /data homing && install -d -o homing -g homing -m 0700 /data
COPY pyproject.toml README.md LICENSE ./
COPY connectors connectors
COPY homing homing
COPY identity identity
COPY imap imap
COPY mail mail
COPY runtime runtime
COPY smtp smtp
COPY storage storage
RUN pip install --no-cache-dir hatchling && pip install --no-cache-dir --no-deps --no-build-isolation .
USER homing
ENV HOMING_DATA=/data
VOLUME /data
EXPOSE 2525 2587 2465 2143 2993 8000 8001 8002 8003 8004
ENTRYPOINT ["homing"]
CMD ["up"]
