#!/bin/sh
# Settings as in docker-compose.yml; the login of REST is made of CONNECT_PASSWORD.
set -eu
umask 077
: "${CONNECT_PASSWORD:?set it to \${{shared.CONNECT_PASSWORD}} (docker/railway/variables.env)}"
: "${DUCKLAKE_MYSQL_PASSWORD:?set it to \${{MySQL.MYSQL_PASSWORD}} (docker/railway/variables.env)}"
folder=$(mktemp -d)
printf 'ducklake: %s\n' "$CONNECT_PASSWORD" >"$folder/users.properties"
printf 'KafkaConnect {\n  %s required file="%s";\n};\n' \
    org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule \
    "$folder/users.properties" >"$folder/jaas.conf"
# the image would make a setting of the worker of it
unset CONNECT_PASSWORD
export KAFKA_OPTS="-Djava.security.auth.login.config=$folder/jaas.conf"
export GROUP_ID=ducklake-connect
export CONFIG_STORAGE_TOPIC=ducklake.connect.configs
export OFFSET_STORAGE_TOPIC=ducklake.connect.offsets
export STATUS_STORAGE_TOPIC=ducklake.connect.status
export HEAP_OPTS="${HEAP_OPTS:--Xms256m -Xmx768m}"
export OFFSET_FLUSH_INTERVAL_MS=1000
export SHUTDOWN_TIMEOUT=1500
export CONNECT_LISTENERS=http://0.0.0.0:8083
export CONNECT_PLUGIN_DISCOVERY=service_load
export CONNECT_EXACTLY_ONCE_SOURCE_SUPPORT=enabled
export CONNECT_CONNECTOR_CLIENT_CONFIG_OVERRIDE_POLICY=Allowlist
export CONNECT_CONNECTOR_CLIENT_CONFIG_OVERRIDE_ALLOWLIST=acks,batch.size,buffer.memory,compression.type,delivery.timeout.ms,linger.ms,max.block.ms,max.request.size,request.timeout.ms,retries
export CONNECT_REST_EXTENSION_CLASSES=org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension,ducklake.RestPolicy
export CONNECT_CONFIG_STORAGE_REPLICATION_FACTOR=1
export CONNECT_OFFSET_STORAGE_REPLICATION_FACTOR=1
export CONNECT_OFFSET_STORAGE_PARTITIONS=1
export CONNECT_STATUS_STORAGE_REPLICATION_FACTOR=1
export CONNECT_STATUS_STORAGE_PARTITIONS=1
export CONNECT_SCHEDULED_REBALANCE_MAX_DELAY_MS=0
export CONNECT_PRODUCER_MAX_REQUEST_SIZE=67108864
export CONNECT_PRODUCER_TRANSACTION_TIMEOUT_MS=15000
export CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE=false
export CONNECT_VALUE_CONVERTER_SCHEMAS_ENABLE=false
export CONNECT_KEY_CONVERTER_DECIMAL_FORMAT=NUMERIC
export CONNECT_VALUE_CONVERTER_DECIMAL_FORMAT=NUMERIC
# the connector names the variable of the password, and REST answers just that name
export CONNECT_CONFIG_PROVIDERS=env
export CONNECT_CONFIG_PROVIDERS_ENV_CLASS=org.apache.kafka.common.config.provider.EnvVarConfigProvider
export CONNECT_CONFIG_PROVIDERS_ENV_PARAM_ALLOWLIST_PATTERN=DUCKLAKE_MYSQL_PASSWORD
exec /docker-entrypoint.sh start
