#!/usr/bin/env bash
# Railway's start command of the service `pipeline`: wait for the services, seed once, run the roles.
#
# Each role is a process of its own here, whose end is the container's end: Railway starts the
# container again, and its log says which role it was. SIGTERM goes on to all roles, which finish what
# they hold. Roles: DUCKLAKE_ROLES, by default all and the page.
set -uo pipefail

ROLES=${DUCKLAKE_ROLES:-"produce consume compact batch monitor live dashboard"}
WAIT_SECONDS=${DUCKLAKE_WAIT_SECONDS:-300}
STOP_SECONDS=${DUCKLAKE_STOP_SECONDS:-20}
MARKER="${DUCKLAKE_DATA_DIR:?set DUCKLAKE_DATA_DIR to the folder of the volume}/.seeded"
PORT=${PORT:-18200}

say() { printf 'start.sh: %s\n' "$*" >&2; }

# HOST:PORT of what the roles need; empty ones are not waited for
services() {
    local kafka=${DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS:-} connect=${DUCKLAKE_SERVICES__CONNECT__URL:-}
    connect=${connect#*://}
    printf '%s\n' \
        "kafka ${kafka%%,*}" \
        "connect ${connect##*@}" \
        "postgres ${DUCKLAKE_SERVICES__POSTGRES__HOST:-}:${DUCKLAKE_SERVICES__POSTGRES__PORT:-5432}" \
        "mysql ${DUCKLAKE_CONNECTIONS__SHOP_DB__HOST:-}:${DUCKLAKE_CONNECTIONS__SHOP_DB__PORT:-3306}" \
        "sftp ${DUCKLAKE_CONNECTIONS__SUPPLIERS__HOST:-}:${DUCKLAKE_CONNECTIONS__SUPPLIERS__PORT:-22}"
}

await_services() {
    local deadline=$((SECONDS + WAIT_SECONDS)) name address host port
    while read -r name address; do
        address=${address%%/*}
        host=${address%:*} port=${address##*:}
        [ -n "$host" ] && [ "$host" != "$address" ] || continue
        until (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do
            [ -z "${stopping:-}" ] || exit 143
            if [ "$SECONDS" -ge "$deadline" ]; then
                say "$name does not answer at $host:$port within $WAIT_SECONDS s: is its service up, and" \
                    "is this address its private domain?"
                exit 69
            fi
            sleep 1
        done
        say "$name answers at $host:$port"
    done < <(services)
}

# Once for each volume; killed in between, it begins anew, and what is there stays.
seed() {
    [ -e "$MARKER" ] && return
    python -m ducklake.seeding || { say "the seeding failed; it is tried again at the next start"; exit 70; }
    : >"$MARKER.part" && mv "$MARKER.part" "$MARKER"
    say "seeded"
}

pids=()
declare -A role_of told
run() {
    "${@:2}" &
    pids+=($!)
    role_of[$!]=$1
}

# Each is told once: a second signal would end it in the middle of its work.
tell_all() {
    local pid
    for pid in "${!role_of[@]}"; do
        [ -n "${told[$pid]:-}" ] && continue
        told[$pid]=1
        kill -TERM "$pid" 2>/dev/null
    done
}

end_all() {
    local deadline=$((SECONDS + STOP_SECONDS)) pid
    tell_all
    while [ "$SECONDS" -lt "$deadline" ] && [ -n "$(jobs -pr)" ]; do sleep 0.2; done
    for pid in $(jobs -pr); do
        say "the role ${role_of[$pid]:-?} did not end within $STOP_SECONDS s and is killed"
        kill -KILL "$pid" 2>/dev/null
    done
}

stopping=
# Told here, too: a signal that comes just before `wait` would else be noticed when a role ends.
trap 'stopping=1; tell_all' TERM INT
await_services
seed
for role in $ROLES; do
    case $role in
    dashboard) run "$role" ducklake dashboard --host 0.0.0.0 --port "$PORT" ;;
    dagster) run "$role" dagster-webserver --host 0.0.0.0 --port 3000 --module-name ducklake.dagster_pipeline ;;
    *) run "$role" ducklake "$role" ;;
    esac
done
say "runs: $ROLES"

code=0
while [ -z "$stopping" ]; do
    ended=
    wait -n -p ended "${pids[@]}"
    code=$?
    [ -n "$stopping" ] && break
    if [ -n "$ended" ]; then
        say "the role ${role_of[$ended]} ended with exit code $code, and the container with it:" \
            "its last lines above say why"
        unset "role_of[$ended]"
        break
    fi
done
end_all
if [ -n "$stopping" ]; then
    say "stopped"
    exit 0
fi
exit "$code"
