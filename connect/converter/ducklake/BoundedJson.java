package ducklake;

import java.math.BigDecimal;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * JSON that Kafka takes. A change that is larger is written without the row before it, which nobody
 * reads where there is one after it; one that still is too large, without any row: the lake keeps it
 * as a dead letter, and the table's other rows go on.
 */
public class BoundedJson extends JsonConverter {
    private static final Logger LOGGER = LoggerFactory.getLogger(BoundedJson.class);
    private static final String LIMIT = "most.bytes";
    private static final int LARGE = 1024;

    private int limit = Integer.MAX_VALUE;
    private boolean isPlain; // without schemas, nulls as they are, numbers as numbers

    @Override
    public void configure(Map<String, ?> settings, boolean isKey) {
        super.configure(settings, isKey);
        Object most = settings.get(LIMIT);
        if (most != null) {
            limit = Integer.parseInt(most.toString());
        }
        isPlain = "false".equals(settings.get("schemas.enable"))
            && "false".equals(settings.get("replace.null.with.default"))
            && "NUMERIC".equals(settings.get("decimal.format"));
    }

    @Override
    public byte[] fromConnectData(String topic, Headers headers, Schema schema, Object value) {
        return fromConnectData(topic, schema, value);
    }

    @Override
    public byte[] fromConnectData(String topic, Schema schema, Object value) {
        byte[] json = json(topic, schema, value);
        if (json == null || json.length <= limit || !isChange(value)) {
            return json;
        }
        Struct change = (Struct) value;
        if (change.get("after") != null && change.get("before") != null) {
            json = super.fromConnectData(topic, schema, without(change, "before"));
            if (json.length <= limit) {
                return json;
            }
        }
        if ("d".equals(change.get("op")) && change.get("before") != null) {
            json = super.fromConnectData(topic, null, withoutLarge(change));
        } else {
            json = null;
        }
        if (json != null && json.length <= limit) {
            return json;
        }
        LOGGER.warn("A row of {} takes more than {} bytes: {}", topic, limit, change.get("source"));
        return super.fromConnectData(topic, schema, without(without(change, "before"), "after"));
    }

    private byte[] json(String topic, Schema schema, Object value) {
        byte[] json = isPlain && schema != null && value instanceof Struct struct
            ? JsonText.of(struct) : null;
        return json == null ? super.fromConnectData(topic, schema, value) : json;
    }

    /** A deletion without the values that make it large: what is deleted is told by the others. */
    private static Map<String, Object> withoutLarge(Struct change) {
        Map<String, Object> plain = plain(change);
        ((Map<?, ?>) plain.get("before")).values()
            .removeIf(value -> value instanceof String text && text.length() > LARGE);
        return plain;
    }

    private static Map<String, Object> plain(Struct struct) {
        Map<String, Object> plain = new LinkedHashMap<>();
        for (Field field : struct.schema().fields()) {
            Object value = struct.getWithoutDefault(field.name());
            plain.put(field.name(), value instanceof Struct inner ? plain(inner)
                : value instanceof BigDecimal number ? number.toPlainString() : value);
        }
        return plain;
    }

    private static boolean isChange(Object value) {
        return value instanceof Struct change && change.schema().field("after") != null
            && change.schema().field("before") != null && change.schema().field("op") != null;
    }

    private static Struct without(Struct change, String image) {
        Struct rest = new Struct(change.schema());
        for (Field field : change.schema().fields()) {
            rest.put(field, field.name().equals(image) ? null : change.get(field));
        }
        return rest;
    }
}
