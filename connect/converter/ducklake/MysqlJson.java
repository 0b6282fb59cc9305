package ducklake;

import com.github.shyiko.mysql.binlog.event.deserialization.AbstractRowsEventDataDeserializer;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/**
 * MySQL's binary form of a JSON value, printed as MySQL itself prints it in a SELECT: a blank behind
 * each colon and comma, keys in MySQL's order, numbers with MySQL's digits.
 *
 * <p>The form is described in MySQL's sql/json_binary.h.
 */
final class MysqlJson {
    private static final int SMALL_OBJECT = 0x00;
    private static final int LARGE_OBJECT = 0x01;
    private static final int SMALL_ARRAY = 0x02;
    private static final int LARGE_ARRAY = 0x03;
    private static final int LITERAL = 0x04;
    private static final int INT16 = 0x05;
    private static final int UINT16 = 0x06;
    private static final int INT32 = 0x07;
    private static final int UINT32 = 0x08;
    private static final int INT64 = 0x09;
    private static final int UINT64 = 0x0a;
    private static final int DOUBLE = 0x0b;
    private static final int STRING = 0x0c;
    private static final int OPAQUE = 0x0f;

    private static final int TYPE_TIMESTAMP = 7;
    private static final int TYPE_DATE = 10;
    private static final int TYPE_TIME = 11;
    private static final int TYPE_DATETIME = 12;
    private static final int TYPE_NEWDECIMAL = 246;

    private final byte[] bytes;
    private final StringBuilder out = new StringBuilder();

    private MysqlJson(byte[] bytes) {
        this.bytes = bytes;
    }

    /** The text of a value as the binlog holds it. */
    static String text(byte[] bytes) {
        MysqlJson json = new MysqlJson(bytes);
        json.value(bytes[0] & 0xff, 1);
        return json.out.toString();
    }

    private void value(int type, int at) {
        switch (type) {
            case SMALL_OBJECT -> members(at, false, true);
            case LARGE_OBJECT -> members(at, true, true);
            case SMALL_ARRAY -> members(at, false, false);
            case LARGE_ARRAY -> members(at, true, false);
            case LITERAL -> literal(bytes[at]);
            case INT16 -> out.append((short) number(at, 2));
            case UINT16 -> out.append(number(at, 2));
            case INT32 -> out.append((int) number(at, 4));
            case UINT32 -> out.append(number(at, 4));
            case INT64 -> out.append(number(at, 8));
            case UINT64 -> out.append(Long.toUnsignedString(number(at, 8)));
            case DOUBLE -> out.append(print(Double.longBitsToDouble(number(at, 8))));
            case STRING -> {
                int[] length = length(at);
                quoted(string(length[1], length[0]));
            }
            case OPAQUE -> opaque(at);
            default -> throw new IllegalArgumentException("JSON value of the unknown type " + type);
        }
    }

    /** An object or an array; offsets in it count from its beginning. */
    private void members(int start, boolean large, boolean object) {
        int width = large ? 4 : 2;
        int count = (int) number(start, width);
        int keys = start + 2 * width;
        int values = object ? keys + count * (width + 2) : keys;
        out.append(object ? '{' : '[');
        for (int i = 0; i < count; i++) {
            if (i > 0) {
                out.append(", ");
            }
            if (object) {
                int entry = keys + i * (width + 2);
                quoted(string(start + (int) number(entry, width), (int) number(entry + width, 2)));
                out.append(": ");
            }
            int entry = values + i * (width + 1);
            int type = bytes[entry] & 0xff;
            boolean inlined = type == LITERAL || type == INT16 || type == UINT16
                || large && (type == INT32 || type == UINT32);
            value(type, inlined ? entry + 1 : start + (int) number(entry + 1, width));
        }
        out.append(object ? '}' : ']');
    }

    private void literal(byte value) {
        out.append(value == 0 ? "null" : value == 1 ? "true" : "false");
    }

    private void opaque(int at) {
        int type = bytes[at] & 0xff;
        int[] length = length(at + 1);
        int from = length[1];
        switch (type) {
            case TYPE_NEWDECIMAL -> {
                byte[] digits = java.util.Arrays.copyOfRange(bytes, from + 2, from + length[0]);
                BigDecimal decimal = AbstractRowsEventDataDeserializer.asBigDecimal(
                    bytes[from] & 0xff, bytes[from + 1] & 0xff, digits);
                out.append(decimal.toPlainString());
            }
            case TYPE_DATE, TYPE_DATETIME, TYPE_TIMESTAMP -> dateTime(number(from, 8), type);
            case TYPE_TIME -> time(number(from, 8));
            default -> {
                byte[] value = java.util.Arrays.copyOfRange(bytes, from, from + length[0]);
                out.append("\"base64:type").append(type).append(':')
                    .append(Base64.getEncoder().encodeToString(value)).append('"');
            }
        }
    }

    private void dateTime(long packed, int type) {
        long value = packed >> 24;
        long date = value >> 17;
        long month = date >> 5;
        out.append('"').append(String.format("%04d-%02d-%02d", month / 13, month % 13, date & 31));
        if (type != TYPE_DATE) {
            out.append(String.format(" %02d:%02d:%02d.%06d",
                value >> 12 & 31, value >> 6 & 63, value & 63, packed & 0xffffff));
        }
        out.append('"');
    }

    private void time(long packed) {
        long size = Math.abs(packed);
        long value = size >> 24;
        out.append(packed < 0 ? "\"-" : "\"").append(String.format("%02d:%02d:%02d.%06d\"",
            value >> 12 & 1023, value >> 6 & 63, value & 63, size & 0xffffff));
    }

    /** Length of data, and where they begin: seven bits a byte, the lowest first. */
    private int[] length(int at) {
        int length = 0;
        int shift = 0;
        while (true) {
            byte part = bytes[at++];
            length |= (part & 0x7f) << shift;
            if (part >= 0) {
                return new int[] {length, at};
            }
            shift += 7;
        }
    }

    private long number(int at, int width) {
        long number = 0;
        for (int i = width - 1; i >= 0; i--) {
            number = number << 8 | bytes[at + i] & 0xff;
        }
        return number;
    }

    private String string(int at, int length) {
        return new String(bytes, at, length, StandardCharsets.UTF_8);
    }

    private void quoted(String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\b' -> out.append("\\b");
                case '\f' -> out.append("\\f");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                default -> {
                    if (c < 0x20) {
                        out.append(String.format("\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }

    /** MySQL's `my_gcvt`: the shortest digits, with an exponent beyond 15 places. */
    static String print(double number) {
        if (number == 0) {
            return 1 / number < 0 ? "-0.0" : "0.0";
        }
        BigDecimal exact = new BigDecimal(Double.toString(Math.abs(number))).stripTrailingZeros();
        String digits = exact.unscaledValue().toString();
        int point = digits.length() - exact.scale();
        String sign = number < 0 ? "-" : "";
        if (point > 15 || point < -14) {
            String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
            return sign + digits.charAt(0) + fraction + "e" + (point - 1);
        }
        String plain = exact.toPlainString();
        return sign + (plain.contains(".") ? plain : plain + ".0");
    }
}
