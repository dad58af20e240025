# An image with the pinned environment: docker build -t multilayer . && docker run --rm multilayer train
FROM python:3.11-slim

RUN apt-get update \
  && apt-get install --no-install-recommends -y git make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /multilayer
COPY pyproject.toml constraints.txt Makefile README.md LICENSE CHANGELOG.md ./
COPY conf conf
COPY src src
RUN make install
ENV PATH=/multilayer/.venv/bin:$PATH
ENTRYPOINT ["multilayer"]
CMD ["--help"]
