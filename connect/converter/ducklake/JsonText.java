package ducklake;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.math.BigDecimal;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Struct;

/**
 * The JSON of a struct, byte for byte what Connect's own converter writes, without the tree of nodes
 * that it builds of each record first. What this does not know is left to that converter.
 */
final class JsonText {
    private static final JsonFactory FACTORY = new JsonFactory();
    private static final int USUAL = 1024;

    private JsonText() {
    }

    /** The JSON, or null where Connect's converter has to write it. */
    static byte[] of(Struct struct) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(USUAL);
        try (JsonGenerator json = FACTORY.createGenerator(bytes)) {
            json.disable(JsonGenerator.Feature.AUTO_CLOSE_JSON_CONTENT);
            if (!write(json, struct)) {
                return null;
            }
        } catch (IOException refused) {
            return null; // half of a character, for one: Connect's converter has the error
        }
        return bytes.toByteArray();
    }

    private static boolean write(JsonGenerator json, Struct struct) throws IOException {
        json.writeStartObject();
        for (Field field : struct.schema().fields()) {
            Object value = field.schema().defaultValue() == null
                ? struct.get(field) : struct.getWithoutDefault(field.name());
            json.writeFieldName(field.name());
            if (value == null) {
                if (!field.schema().isOptional()) {
                    return false;
                }
                json.writeNull();
            } else if (!writeValue(json, value)) {
                return false;
            }
        }
        json.writeEndObject();
        return true;
    }

    /** A value says by its class what it is: of Connect's logical types, only a Decimal is known. */
    private static boolean writeValue(JsonGenerator json, Object value) throws IOException {
        if (value instanceof String text) {
            json.writeString(text);
        } else if (value instanceof Struct inner) {
            return write(json, inner);
        } else if (value instanceof byte[] bytes) {
            json.writeBinary(bytes);
        } else if (value instanceof Boolean flag) {
            json.writeBoolean(flag);
        } else if (value instanceof BigDecimal number) {
            json.writeNumber(number);
        } else if (value instanceof Long number) {
            json.writeNumber(number);
        } else if (value instanceof Integer number) {
            json.writeNumber(number);
        } else if (value instanceof Short number) {
            json.writeNumber(number);
        } else if (value instanceof Byte number) {
            json.writeNumber((short) number);
        } else if (value instanceof Double number) {
            json.writeNumber(number);
        } else if (value instanceof Float number) {
            json.writeNumber(number);
        } else {
            return false;
        }
        return true;
    }
}
