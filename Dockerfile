# README.md's installation as an image; docs/docker.md says how to build and run it.
FROM debian:bookworm-slim

# Extras of pyproject.toml. Super Mario's packages are not free software, so `mario` is for who asks for it.
ARG EXTRAS=atari,classic,box2d
# cpu: the torch of constraints.txt. cuda: the newest torch.
ARG DEVICE=cpu
# A package index for torch, beside pip's own.
ARG TORCH_INDEX=""
# The user's number, best the one who owns the folder that is mounted on /work/runs.
ARG USER_ID=1000

# nes-py, which `mario` brings, is compiled when it is installed.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
    $(case ",$EXTRAS," in *,mario,*) echo g++ python3-dev ;; esac) \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid "$USER_ID" --create-home asyncrl && install -d -o asyncrl /work/runs && python3 -m venv /venv
ENV PATH="/venv/bin:$PATH"

# torch before the sources: a change of these does not fetch it again.
WORKDIR /source
COPY constraints.txt ./
RUN case "$DEVICE" in \
      cpu) ;; \
      cuda) sed -i '/^torch==/d' constraints.txt ;; \
      *) echo "DEVICE is $DEVICE; it can be cpu or cuda." >&2; exit 2 ;; \
    esac \
 && pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY asyncrl asyncrl
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

USER asyncrl
WORKDIR /work
ENTRYPOINT ["asyncrl"]
