# See docs/docker.md.
FROM debian:bookworm-slim

# Extras of pyproject.toml; `mario` is not free software, so it must be requested.
ARG EXTRAS=atari,classic,box2d
# cpu: the torch of constraints.txt. cuda: the newest torch.
ARG DEVICE=cpu
# An additional package index for torch.
ARG TORCH_INDEX=""
# The user's id; it should own the folder mounted on /work/runs.
ARG USER_ID=1000

# nes-py (extra `mario`) is compiled on installation; MuJoCo draws with EGL.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
    $(case ",$EXTRAS," in *,mario,*) echo g++ python3-dev ;; esac) \
    $(case ",$EXTRAS," in *,mujoco,*) echo libegl1 ;; esac) \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid "$USER_ID" --create-home asyncrl && install -d -o asyncrl /work/runs && python3 -m venv /venv
ENV PATH="/venv/bin:$PATH"

# torch first, so that a change of the sources does not download it again.
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
