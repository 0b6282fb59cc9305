package ducklake;

import io.debezium.relational.Column;
import io.debezium.spi.converter.CustomConverter;
import io.debezium.spi.converter.RelationalColumn;
import java.lang.reflect.Field;
import java.sql.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.Year;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.Arrays;
import java.util.Base64;
import java.util.BitSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.errors.ConnectException;

/**
 * A converter for Debezium's MySQL connector: values that Debezium rounds, moves or writes in two
 * ways become one exact text, the same out of a snapshot and out of the binlog. The text is that of
 * MySQL's own answer to a SELECT; docs/TYPES.md has the table.
 *
 * <p>A value is what JDBC returns, or what the binlog's reader makes of its bytes. A date of zeros is
 * null in both; where the column is NOT NULL, it is told by that.
 */
public class MysqlValues implements CustomConverter<SchemaBuilder, RelationalColumn> {
    /** A setting that the task adds: the name of the server in {@link Members}. */
    static final String SERVER = "server";
    private static final String ZERO_DATE = "0000-00-00";
    private static final Set<String> TEXTS = Set.of(
        "CHAR", "CHARACTER", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "LONG");

    private String server = "";

    @Override
    public void configure(Properties properties) {
        server = properties.getProperty(SERVER, "");
    }

    @Override
    public void converterFor(
            RelationalColumn column, ConverterRegistration<SchemaBuilder> registration) {
        String type = column.typeName() == null ? "" : column.typeName().toUpperCase(Locale.ROOT);
        String base = type.split("[ (]", 2)[0];
        switch (base) {
            case "TIME" -> register(column, registration, null, v -> time(v, digits(column)));
            case "DATE" -> register(column, registration, ZERO_DATE, MysqlValues::date);
            case "DATETIME" -> register(column, registration, zeroDateTime(column),
                v -> dateTime(v, digits(column)));
            case "TIMESTAMP" -> register(column, registration, zeroDateTime(column),
                v -> timestamp(v, digits(column)));
            case "YEAR" -> register(column, registration, null, MysqlValues::year);
            case "FLOAT", "FLOAT4", "REAL" -> register(column, registration, null,
                v -> floating(v, isDouble(base, column)));
            case "BOOL", "BOOLEAN" -> register(column, registration, null, MysqlValues::integer);
            case "BIT" -> {
                int bits = column.length().orElse(1);
                if (bits > 1) {
                    register(column, registration, null, v -> bits(v, bits));
                }
            }
            case "ENUM" -> {
                Members members = new Members(members(column), column, server);
                register(column, registration, null, v -> v instanceof Number number
                    ? members.member(number.intValue()) : v.toString());
            }
            case "SET" -> {
                Members members = new Members(members(column), column, server);
                register(column, registration, null, v -> v instanceof Number number
                    ? members.set(number.longValue()) : v.toString());
            }
            case "JSON" -> register(column, registration, null, MysqlValues::json);
            default -> {
                if (TEXTS.contains(base) && "binary".equalsIgnoreCase(column.charsetName())) {
                    boolean fixed = base.startsWith("CHAR") && !type.contains("VARYING");
                    int length = fixed ? column.length().orElse(1) : 0;
                    register(column, registration, null, v -> bytes(v, length));
                }
            }
        }
    }

    /** A column whose text is that of a conversion; NULL, and a date of zeros, come as null. */
    private static void register(RelationalColumn column,
            ConverterRegistration<SchemaBuilder> registration, String insteadOfNull,
            Converter conversion) {
        SchemaBuilder schema = SchemaBuilder.string();
        if (!column.isOptional()) {
            schema.optional(); // Debezium says so of the others itself, and once is all it may be
        }
        String missing = column.isOptional() ? null : insteadOfNull;
        registration.register(schema, v -> v == null ? missing : conversion.convert(v));
    }

    private static int digits(RelationalColumn column) {
        int length = column.length().orElse(0);
        return length > 6 ? 0 : length;
    }

    private static String zeroDateTime(RelationalColumn column) {
        return ZERO_DATE + " 00:00:00" + fraction(0, digits(column));
    }

    private static String fraction(long nanos, int digits) {
        if (digits == 0) {
            return "";
        }
        // Debezium computes them with a double, which may end up just below the whole number
        int micros = (int) ((nanos + 500) / 1000);
        return "." + padded(micros, 6).substring(0, digits);
    }

    /** A number with zeros before it; String.format would take most of the time of a row. */
    private static String padded(int number, int width) {
        String text = Integer.toString(number);
        return text.length() < width ? "0".repeat(width - text.length()) + text : text;
    }

    private static String clock(int hours, int minutes, int seconds) {
        return padded(hours, 2) + ":" + padded(minutes, 2) + ":" + padded(seconds, 2);
    }

    private static Object time(Object value, int digits) {
        if (value instanceof Duration duration) {
            Duration size = duration.abs();
            return (duration.isNegative() ? "-" : "")
                + clock((int) size.toHours(), size.toMinutesPart(), size.toSecondsPart())
                + fraction(size.getNano(), digits);
        }
        return value.toString();
    }

    private static Object date(Object value) {
        if (value instanceof LocalDate date) {
            return day(date);
        }
        return value.toString();
    }

    private static String day(LocalDate date) {
        return padded(date.getYear(), 4) + "-" + padded(date.getMonthValue(), 2)
            + "-" + padded(date.getDayOfMonth(), 2);
    }

    private static Object dateTime(Object value, int digits) {
        // JDBC's Timestamp is read with the calendar with which it was written
        LocalDateTime moment = value instanceof Timestamp stamp ? stamp.toLocalDateTime()
            : value instanceof LocalDateTime local ? local : null;
        if (moment == null) {
            // a day that calendar does not have, marked by the snapshot's SELECT
            String text = value.toString();
            return text.startsWith("=") ? text.substring(1) : text;
        }
        return print(moment, digits);
    }

    private static String print(LocalDateTime moment, int digits) {
        LocalTime time = moment.toLocalTime();
        return day(moment.toLocalDate())
            + " " + clock(time.getHour(), time.getMinute(), time.getSecond())
            + fraction(time.getNano(), digits);
    }

    private static Object timestamp(Object value, int digits) {
        Instant instant = value instanceof Timestamp stamp ? stamp.toInstant()
            : value instanceof ZonedDateTime zoned ? zoned.toInstant()
            : value instanceof OffsetDateTime offset ? offset.toInstant() : null;
        if (instant == null) {
            return value.toString();
        }
        return print(LocalDateTime.ofInstant(instant, ZoneOffset.UTC), digits) + "Z";
    }

    private static Object year(Object value) {
        if (value instanceof Year year) {
            // the binlog has years from 1900, and 0 for the year 0000, which is no 1900
            return String.valueOf(year.getValue() == 1900 ? 0 : year.getValue());
        }
        return value instanceof Number number ? String.valueOf(number.intValue()) : value.toString();
    }

    /** Whether MySQL keeps eight bytes: FLOAT(p) does from 25 on, REAL is a DOUBLE. */
    private static boolean isDouble(String base, RelationalColumn column) {
        boolean precise = column.scale().isEmpty() && column.length().orElse(0) > 24;
        return base.equals("REAL") || precise;
    }

    private static Object floating(Object value, boolean isDouble) {
        if (value instanceof Float || value instanceof Number && !isDouble) {
            // a snapshot reads a FLOAT as a DOUBLE: of its text, MySQL prints six digits only
            return Float.toString(((Number) value).floatValue());
        }
        return value instanceof Number number ? Double.toString(number.doubleValue())
            : value.toString();
    }

    private static Object integer(Object value) {
        if (value instanceof Boolean truth) {
            return truth ? "1" : "0";
        }
        return value instanceof Number number ? String.valueOf(number.longValue())
            : value.toString();
    }

    /** As a hexadecimal literal, the highest byte first; base64 is the old, reversed form. */
    private static Object bits(Object value, int length) {
        byte[] bytes = new byte[(length + 7) / 8];
        if (value instanceof BitSet set) {
            for (int bit = set.nextSetBit(0); bit >= 0; bit = set.nextSetBit(bit + 1)) {
                bytes[bytes.length - 1 - bit / 8] |= 1 << bit % 8;
            }
        } else if (value instanceof byte[] given) {
            int count = Math.min(given.length, bytes.length);
            System.arraycopy(given, given.length - count, bytes, bytes.length - count, count);
        } else {
            return null; // a default, which nobody reads
        }
        return "X'" + HexFormat.of().formatHex(bytes) + "'";
    }

    /** The members of an ENUM or a SET, which Debezium's interface does not tell a converter. */
    private static List<String> members(RelationalColumn column) {
        for (Field field : column.getClass().getDeclaredFields()) {
            if (Column.class.isAssignableFrom(field.getType())) {
                try {
                    field.setAccessible(true);
                    Column described = (Column) field.get(column);
                    return described.enumValues().stream().map(MysqlValues::unquoted).toList();
                } catch (IllegalAccessException error) {
                    break;
                }
            }
        }
        throw new ConnectException("This version of Debezium hides the members of the column "
            + column.dataCollection() + "." + column.name() + " from the converter ducklake."
            + "MysqlValues; use the version that the README names.");
    }

    /** What an SQL string says: quotes are doubled or escaped, and blanks at its end do not count. */
    private static String unquoted(String literal) {
        String text = literal.strip();
        char quote = text.isEmpty() ? ' ' : text.charAt(0);
        if (quote != '\'' && quote != '"') {
            return text;
        }
        StringBuilder said = new StringBuilder();
        for (int i = 1; i < text.length() - 1; i++) {
            char c = text.charAt(i);
            if (c == quote && text.charAt(i + 1) == quote) {
                i++;
            } else if (c == '\\' && i + 1 < text.length() - 1) {
                c = text.charAt(++i);
                int at = "0bnrtZ".indexOf(c);
                c = at >= 0 ? "\0\b\n\r\t\u001a".charAt(at) : c;
            }
            said.append(c);
        }
        int end = said.length();
        while (end > 0 && said.charAt(end - 1) == ' ') {
            end--;
        }
        return said.substring(0, end);
    }

    private static Object json(Object value) {
        if (value instanceof byte[] bytes) {
            return bytes.length == 0 ? "null" : MysqlJson.text(bytes);
        }
        return value.toString();
    }

    /** Bytes in base64; those of a fixed length end with the zeros that the binlog leaves out. */
    private static Object bytes(Object value, int length) {
        if (value instanceof byte[] bytes) {
            byte[] whole = bytes.length < length ? Arrays.copyOf(bytes, length) : bytes;
            return Base64.getEncoder().encodeToString(whole);
        }
        return null; // a default, which nobody reads
    }
}
