#!/usr/bin/env bash
# Apache Kafka for tests: KRaft nodes on loopback, each broker and controller.
#
#   kafka.sh install                  fetch it with Maven, into the cache; prints where it is
#   kafka.sh start DIR PORT [NODES]   start 1 or 3 nodes with their data in DIR; node n listens on PORT + 2 (n - 1), its
#                                     controller on the port after that
#   kafka.sh stop DIR                 stop them
#   kafka.sh serve PORT [NODES]       start, stop at the end of standard input, and leave nothing behind; lines of it are
#                                     obeyed: `kill N`, `start N`, `freeze N` and `thaw N` for node N
#   kafka.sh serve-secure PORT CERTS  the same with one node that also listens
#                                     - with SASL_SSL on PORT + 2 and SASL_PLAINTEXT on PORT + 3, for the users `reader` and
#                                       `stranger` (password: the name and `-secret`) and for tokens of anybody
#                                     - with SSL on PORT + 4, for whoever shows a certificate of `ca.pem`
#                                     - with SSL on PORT + 5, with a certificate for `elsewhere.invalid`
#                                     Who comes by PORT may do everything, others what access lists allow. CERTS gets
#                                     `ca.pem`, `other-ca.pem` that signed nothing, and `reader.pem` with `reader.key`
#                                     (password: `key-secret`)
#
# `start` does not wait until they answer. Exit code 69: something that it needs is not on this machine.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

version="$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")"
installed="${XDG_CACHE_HOME:-$HOME/.cache}/bessemer/kafka-$version"
# Small, and quick to start: a node lives for seconds.
java_options=(-Xms64m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto)

unavailable() { echo "kafka.sh: $*" >&2; exit 69; }

install() {
    if [[ ! -e "$installed/ready" ]]; then
        command -v java >/dev/null || unavailable "there is no java"
        command -v mvn >/dev/null || unavailable "there is no mvn"
        mkdir -p "$(dirname "$installed")"
        local fetched
        fetched="$(mktemp -d "$installed.XXXXXX")"
        if ! mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$fetched" </dev/null >&2; then
            rm -rf "$fetched"
            unavailable "Maven cannot fetch Kafka $version"
        fi
        touch "$fetched/ready"
        # Where another install was faster, its copy is the same.
        mv -T "$fetched" "$installed" 2>/dev/null || rm -rf "$fetched"
    fi
    echo "$installed"
}

settings() {
    local dir="$1" port="$2" nodes="$3" node="$4" voters="" n
    for n in $(seq "$nodes"); do voters+="${voters:+,}$n@127.0.0.1:$((port + 2 * n - 1))"; done
    cat <<END
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$((port + 2 * node - 2)),CONTROLLER://127.0.0.1:$((port + 2 * node - 1))
log.dirs=$dir/$node/data
auto.create.topics.enable=false
default.replication.factor=$nodes
offsets.topic.num.partitions=1
offsets.topic.replication.factor=$nodes
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=$nodes
transaction.state.log.min.isr=$(((nodes + 1) / 2))
group.initial.rebalance.delay.ms=0
# A node that is gone is missed soon.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
# What waits in a server that runs for years is done at once here.
log.initial.task.delay.ms=100
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=100
log.cleaner.dedupe.buffer.size=4194304
END
}

# What a node needs besides to be asked who comes; CERTS has its certificate.
secure_settings() {
    local port="$1" certs="$2" module=org.apache.kafka.common.security listener
    cat <<END
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1)),SASL_SSL://127.0.0.1:$((port + 2)),SASL_PLAINTEXT://127.0.0.1:$((port + 3)),MUTUAL://127.0.0.1:$((port + 4)),ELSEWHERE://127.0.0.1:$((port + 5))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,MUTUAL:SSL,ELSEWHERE:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location=$certs/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=$certs/ca.pem
ssl.principal.mapping.rules=RULE:^CN=(.*)$/\$1/
listener.name.mutual.ssl.client.auth=required
listener.name.elsewhere.ssl.keystore.location=$certs/elsewhere.pem
END
    for listener in sasl_ssl sasl_plaintext; do
        cat <<END
listener.name.$listener.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_reader="reader-secret" user_stranger="stranger-secret";
listener.name.$listener.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.$listener.oauthbearer.sasl.jaas.config=$module.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
END
    done
}

# Two authorities of a day, and certificates of the first: for brokers, and for the user `reader`, in CERTS.
certify() {
    local certs="$1" key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1)
    command -v openssl >/dev/null || unavailable "there is no openssl"
    # NAME SUBJECT_ALT_NAME [OPTION...]: makes NAME.key and NAME.pem; the options are for the key.
    sign() {
        local name="$1" names="$2"
        shift 2
        openssl req "${key[@]}" "$@" -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
        printf 'subjectAltName=%s\n' "$names" >"$name.ext"
        openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile "$name.ext" -out "$name.pem"
    }
    (
        cd "$certs"
        openssl req -x509 "${key[@]}" -nodes -days 1 -subj /CN=authority -keyout ca.key -out ca.pem
        openssl req -x509 "${key[@]}" -nodes -days 1 -subj /CN=other -keyout other-ca.key -out other-ca.pem
        sign broker IP:127.0.0.1,DNS:localhost -nodes
        sign elsewhere DNS:elsewhere.invalid -nodes
        sign reader DNS:reader -passout pass:key-secret
        # A broker has both in one file.
        cat broker.key >>broker.pem
        cat elsewhere.key >>elsewhere.pem
    ) 2>/dev/null || unavailable "openssl makes no certificates"
}

# With CERTS: as `serve-secure` says.
start() {
    local dir="$1" port="$2" nodes="${3:-1}" certs="${4:-}" node users=() user mechanism
    command -v java >/dev/null || unavailable "there is no java"
    [[ -e "$installed/ready" ]] || unavailable "Kafka $version is not installed: run integration-tests/kafka/kafka.sh install"
    if [[ -n "$certs" ]]; then
        certify "$certs"
        for user in reader stranger; do
            for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
                users+=(--add-scram "$mechanism=[name=$user,password=$user-secret]")
            done
        done
    fi
    for node in $(seq "$nodes"); do
        mkdir -p "$dir/$node"
        settings "$dir" "$port" "$nodes" "$node" >"$dir/$node/server.properties"
        # What is said last holds.
        [[ -z "$certs" ]] || secure_settings "$port" "$certs" >>"$dir/$node/server.properties"
        start_node "$dir/$node" "${users[@]}"
    done
}

# Starts the node whose folder is there; what follows is for its first start.
start_node() {
    local dir="$1"
    shift
    local java=(java "${java_options[@]}" -Dlog4j2.configurationFile="$here/log4j2.properties" -cp "$installed/*")
    # Each node is a process group of its own: it is stopped whole.
    set -m
    (
        cd "$dir"
        [[ -e data/meta.properties ]] ||
            "${java[@]}" kafka.tools.StorageTool format -t bessemer-testing-kafka -c server.properties "$@"
        exec "${java[@]}" kafka.Kafka server.properties
    ) </dev/null >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
    set +m
}

stop() {
    local node
    for node in "$1"/[0-9]*; do
        # Their data is not for keeping: there is nothing to end in order.
        kill_node "$node"
    done
}

kill_node() {
    local pid
    [[ -e "$1/pid" ]] || return 0
    pid="$(<"$1/pid")"
    kill -KILL -- "-$pid" 2>/dev/null || true
    while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.05; done
    rm -f "$1/pid"
}

# Does to the node of a folder what a test says.
obey() {
    case "$1" in
    kill) kill_node "$2" ;;
    start) start_node "$2" ;;
    freeze) kill -STOP -- "-$(<"$2/pid")" ;;
    thaw) kill -CONT -- "-$(<"$2/pid")" ;;
    esac
}

# Fails with the last words of a node that has ended.
check() {
    local node
    for node in "$1"/[0-9]*; do
        [[ -e "$node/pid" ]] || continue
        kill -0 "$(<"$node/pid")" 2>/dev/null && continue
        tail -n 20 "$node/log" >&2
        exit 70
    done
}

serve() {
    local dir code word node
    dir="$(mktemp -d)"
    # shellcheck disable=SC2064  # The folder's name is known here, not there.
    trap "stop '$dir' 2>/dev/null; rm -rf '$dir'" EXIT
    start "$dir" "$@"
    while true; do
        code=0
        read -rt 1 word node || code=$?
        # Above 128: nothing came, and there may be more.
        ((code == 0 || code > 128)) || break
        ((code > 128)) || obey "$word" "$dir/$node"
        check "$dir"
    done
}

serve-secure() { serve "$1" 1 "$2"; }

command="${1:-}"
shift || true
case "$command" in
install | start | stop | serve | serve-secure) "$command" "$@" ;;
*)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
