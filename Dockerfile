# What README.md says under "To install", in an image for CPUs:
#   docker build -t recipe-runner .
#   docker run --init --rm -it -v recipe-cache:/home/recipe/.cache -v "$PWD:/work" recipe-runner run quickstart
# The volume keeps the backends' environments, the bundled model and Hugging Face's cache: `recipe-runner setup` fills it
# ahead of time. Files in /work are the user's of number 1000.
FROM python:3.12-slim
# vLLM's build for CPUs is linked with it.
RUN apt-get update && apt-get install -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 recipe && install -d -o recipe -g recipe /work /home/recipe/.cache /home/recipe/recipe-runner
USER recipe
WORKDIR /home/recipe/recipe-runner
COPY --chown=recipe:recipe . .
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/home/recipe/recipe-runner/.venv/bin:$PATH
RUN python3 -m venv .venv && .venv/bin/pip install .
VOLUME /home/recipe/.cache
WORKDIR /work
ENTRYPOINT ["recipe"]
CMD ["doctor"]
