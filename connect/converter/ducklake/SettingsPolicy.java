package ducklake;

import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;

/** Which settings a connector may have: none that reads a file, runs code, or shows a secret. */
final class SettingsPolicy {
    private static final Pattern REFERENCE = Pattern.compile("\\$\\{[^}]*:[^}]*\\}");
    private static final Pattern HOST = Pattern.compile("[A-Za-z0-9._-]+|\\[?[0-9A-Fa-f:.]+\\]?");
    private static final Pattern PORT = Pattern.compile("\\s*[0-9]{1,5}\\s*");
    private static final Pattern CLIENT =
            Pattern.compile("(?:schema\\.history\\.internal\\.(?:producer|consumer)|signal\\.consumer)\\.(.+)");
    private static final Pattern OF_CLIENT = Pattern.compile(
            "security\\.protocol|sasl\\.mechanism|sasl\\.jaas\\.config"
                    + "|ssl\\.(?:trust|key)store\\.(?:location|password|type)|ssl\\.key\\.password"
                    + "|ssl\\.endpoint\\.identification\\.algorithm|client\\.id|acks|retries"
                    + "|[a-z.]+\\.(?:ms|bytes|size|records)");
    private static final Pattern SECRET = Pattern.compile(
            "database\\.password|database\\.ssl\\.(?:trust|key)store\\.password"
                    + "|(?:schema\\.history\\.internal\\.(?:producer|consumer)|signal\\.consumer)"
                    + "\\.(?:sasl\\.jaas\\.config|ssl\\.(?:trust|key)store\\.password|ssl\\.key\\.password)");
    private static final Pattern LOGIN = Pattern.compile(
            "org\\.apache\\.kafka\\.common\\.security\\.(?:plain\\.Plain|scram\\.Scram)LoginModule"
                    + " required [^;]*;\\s*");
    private static final Set<String> DRIVER = Set.of(
            "forceConnectionTimeZoneToSession", "yearIsDateType", "connectionCollation",
            "characterSetResults", "connectTimeout", "socketTimeout", "tcpKeepAlive",
            "useCompression");
    private static final Set<String> DATABASE = Set.of(
            "hostname", "port", "user", "password", "server.id", "server.id.offset",
            "include.list", "exclude.list", "connectionTimeZone", "jdbc.driver",
            "query.timeout.ms", "ssl.mode", "ssl.keystore", "ssl.keystore.password",
            "ssl.truststore", "ssl.truststore.password");
    private static final Set<String> CONVERTERS = Set.of(
            "ducklake.BoundedJson", "org.apache.kafka.connect.json.JsonConverter",
            "org.apache.kafka.connect.storage.SimpleHeaderConverter");
    /** Connect itself says of one that is missing that this jar is another release's. */
    private static final String OWN = "ducklake.";
    private static final String STOCK = "org.apache.kafka.connect.transforms.";
    /** Settings whose value names code, and what each may name beside the project's own classes. */
    private static final Map<String, Set<String>> CODE = Map.of(
            "connector.class", Set.of("ducklake.MysqlConnector", "MysqlConnector"),
            "key.converter", CONVERTERS,
            "value.converter", CONVERTERS,
            "header.converter", CONVERTERS,
            "database.jdbc.driver", Set.of("ducklake.ExactDriver"),
            "topic.naming.strategy", Set.of("ducklake.MysqlTopics"),
            "schema.history.internal",
                    Set.of("io.debezium.storage.kafka.history.KafkaSchemaHistory"));
    private static final Map<String, Set<String>> CHANNELS = Map.of(
            "signal.enabled.channels", Set.of("kafka", "source"),
            "notification.enabled.channels", Set.of("sink", "log"));
    private static final Set<String> NEVER = Set.of(
            "signal.file", "sourceinfo.struct.maker", "snapshot.mode.custom.name",
            "snapshot.query.mode.custom.name", "snapshot.locking.mode.custom.name");

    private final String kafka;

    /** Takes the brokers of the worker: a connector's own clients go nowhere else. */
    SettingsPolicy(String kafka) {
        this.kafka = kafka;
    }

    /** What is wrong with a setting; it never holds the value. */
    Optional<String> problem(String key, String value) {
        return Optional.ofNullable(wrong(key, value)).map(what -> key + ": " + what + ".");
    }

    private String wrong(String key, String value) {
        String given = value.strip();
        if (REFERENCE.matcher(value).find()
                && !(SECRET.matcher(key).matches() && REFERENCE.matcher(given).matches())) {
            return "a reference to a secret may only be the whole value of a password";
        }
        if (key.contains("config.providers") || NEVER.contains(key)
                || key.startsWith("openlineage.")) {
            return "connectors may not set this here";
        }
        if (CODE.containsKey(key)) {
            boolean known = CODE.get(key).contains(given) || given.startsWith(OWN);
            return known ? null : "this class is not one of the project's";
        }
        if (CHANNELS.containsKey(key)) {
            boolean known = Arrays.stream(given.split(",")).map(String::strip)
                    .allMatch(CHANNELS.get(key)::contains);
            return known ? null : "this channel is not allowed";
        }
        if (key.startsWith("driver.")) {
            return DRIVER.contains(key.substring("driver.".length()))
                    ? null : "the JDBC driver may not be given this";
        }
        if (key.startsWith("database.")) {
            return ofDatabase(key.substring("database.".length()), given);
        }
        if (key.endsWith(".class") || key.endsWith(".classes") || key.endsWith(".reporters")) {
            return "this class is not one of the project's";
        }
        if (key.endsWith(".type")) {
            return ofType(key, given);
        }
        return ofClient(key, given);
    }

    private static String ofDatabase(String name, String value) {
        if (!DATABASE.contains(name)) {
            return "the JDBC driver may not be given this";
        }
        boolean isAddress = switch (name) {
            case "hostname" -> HOST.matcher(value).matches();
            case "port" -> PORT.matcher(value).matches();
            default -> true;
        };
        return isAddress ? null : "this is no address";
    }

    private static String ofType(String key, String value) {
        String low = key.toLowerCase(Locale.ROOT);
        boolean noClass = low.equals("ddl.parser.type") || low.endsWith("compression.type")
                || low.endsWith("store.type");
        boolean stock = (low.startsWith("transforms.") || low.startsWith("predicates."))
                && value.startsWith(STOCK);
        return noClass || stock || value.startsWith(OWN)
                ? null : "this class is not one of the project's";
    }

    private String ofClient(String key, String value) {
        if (key.endsWith("bootstrap.servers")) {
            return value.equals(kafka) ? null : "only the brokers of this Connect are allowed";
        }
        var client = CLIENT.matcher(key);
        if (!client.matches()) {
            return null;
        }
        if (!OF_CLIENT.matcher(client.group(1)).matches()) {
            return "a Kafka client may not be given this";
        }
        boolean login = !key.endsWith("sasl.jaas.config")
                || REFERENCE.matcher(value).matches() || LOGIN.matcher(value).matches();
        return login ? null : "only PLAIN and SCRAM can log in";
    }
}
