package ducklake;

import com.github.shyiko.mysql.binlog.event.TableMapEventData;
import com.github.shyiko.mysql.binlog.event.TableMapEventMetadata;
import io.debezium.connector.binlog.charset.BinlogCharsetRegistry;
import io.debezium.relational.Column;
import io.debezium.relational.Table;
import io.debezium.relational.TableEditor;
import java.util.BitSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** The columns that the rows of the binlog have, as the binlog itself describes them. */
final class TableMap {
    private static final Map<String, Set<Integer>> CODES = Map.ofEntries(
        Map.entry("TINYINT", Set.of(1)), Map.entry("INT1", Set.of(1)),
        Map.entry("BOOL", Set.of(1)), Map.entry("BOOLEAN", Set.of(1)),
        Map.entry("SMALLINT", Set.of(2)), Map.entry("INT2", Set.of(2)),
        Map.entry("MEDIUMINT", Set.of(9)), Map.entry("INT3", Set.of(9)),
        Map.entry("MIDDLEINT", Set.of(9)),
        Map.entry("INT", Set.of(3)), Map.entry("INTEGER", Set.of(3)), Map.entry("INT4", Set.of(3)),
        Map.entry("BIGINT", Set.of(8)), Map.entry("INT8", Set.of(8)),
        Map.entry("SERIAL", Set.of(8)),
        Map.entry("FLOAT", Set.of(4, 5)), Map.entry("FLOAT4", Set.of(4)),
        Map.entry("DOUBLE", Set.of(5)), Map.entry("FLOAT8", Set.of(5)),
        Map.entry("REAL", Set.of(4, 5)),
        Map.entry("DECIMAL", Set.of(0, 246)), Map.entry("DEC", Set.of(0, 246)),
        Map.entry("NUMERIC", Set.of(0, 246)), Map.entry("FIXED", Set.of(0, 246)),
        Map.entry("BIT", Set.of(16)), Map.entry("YEAR", Set.of(13)),
        Map.entry("DATE", Set.of(10, 14)), Map.entry("TIME", Set.of(11, 19)),
        Map.entry("DATETIME", Set.of(12, 18)), Map.entry("TIMESTAMP", Set.of(7, 17)),
        Map.entry("JSON", Set.of(245)), Map.entry("ENUM", Set.of(247, 254)),
        Map.entry("SET", Set.of(248, 254)));

    private final TableMapEventData event;
    private final int[] at;

    /**
     * Make one.
     *
     * @param event the binlog's
     * @param at where in it the columns are that a definition shows; null for all of them
     */
    TableMap(TableMapEventData event, int[] at) {
        this.event = event;
        this.at = at != null ? at : IntStream.range(0, event.getColumnTypes().length).toArray();
    }

    /** Where the columns are, if the binlog has others, too: those of an index on expressions. */
    int[] selected() {
        return at.length < event.getColumnTypes().length ? at : null;
    }

    /** Whether it names the columns (binlog_row_metadata=FULL). */
    boolean namesColumns() {
        return names(event) != null;
    }

    /** Whether rows of these columns can be told apart by a definition. */
    boolean fits(Table table) {
        byte[] types = event.getColumnTypes();
        List<Column> columns = table.columns();
        if (columns.size() != at.length) {
            return false;
        }
        List<String> names = names(event);
        for (int i = 0; i < at.length; i++) {
            Column column = columns.get(i);
            if (names != null && !names.get(at[i]).equals(column.name())) {
                return false;
            }
            Set<Integer> codes = CODES.get(base(column));
            int code = types[at[i]] & 0xff;
            if (codes == null ? CODES_ALONE.contains(code) : !codes.contains(code)) {
                return false;
            }
        }
        return true;
    }

    /** Codes of one type only: no text and no type that is unknown here has them. */
    private static final Set<Integer> CODES_ALONE =
        Set.of(0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 245, 246);

    private static final int VARCHAR = 15;
    private static final int BIT = 16;
    private static final int BLOB = 252;
    private static final int VAR_STRING = 253;
    private static final int STRING = 254;
    private static final int DECIMAL = 246;
    private static final Set<Integer> NUMBERS = Set.of(1, 2, 3, 4, 5, 8, 9, DECIMAL);
    private static final Set<Integer> FRACTIONS = Set.of(17, 18, 19);
    private static final int ENUM_TYPE = 247;
    private static final int SET_TYPE = 248;

    /** Whether the binlog tells the sign of a column of this code. */
    static boolean isNumber(int code) {
        return NUMBERS.contains(code);
    }

    /** Whether the columns have these signs, digits and character sets, too, as far as it is told. */
    boolean fitsExactly(Table table, BinlogCharsetRegistry charsets) {
        if (!fits(table)) {
            return false;
        }
        byte[] types = event.getColumnTypes();
        int[] details = event.getColumnMetadata();
        TableMapEventMetadata metadata = event.getEventMetadata();
        BitSet unsigned = metadata == null ? null : metadata.getSignedness();
        for (int i = 0; i < at.length; i++) {
            Column column = table.columns().get(i);
            int code = types[at[i]] & 0xff;
            int detail = details[at[i]];
            boolean same = switch (code) {
                case DECIMAL -> (detail >> 8) == column.scale().orElse(0);
                case BIT -> (detail >> 8) * 8 + (detail & 0xff) == Math.max(1, column.length());
                default -> !FRACTIONS.contains(code) || detail == digits(column);
            };
            if (unsigned != null && isNumber(code) && unsigned.get(at[i]) != isUnsigned(column)) {
                same = false;
            }
            if (!same || isText(code, detail) && !isCharset(column, charset(at[i], charsets))) {
                return false;
            }
        }
        return true;
    }

    /**
     * A definition with the character sets that the binlog tells, where these alone were believed to
     * be others; null where that does not make it fit.
     */
    Table withCharsets(Table table, BinlogCharsetRegistry charsets) {
        if (!fits(table)) {
            return null;
        }
        TableEditor editor = table.edit();
        for (int i = 0; i < at.length; i++) {
            Column column = table.columns().get(i);
            if (isText(at[i])) {
                String name = charset(at[i], charsets);
                if (!isCharset(column, name) && !name.equals("binary")
                        && !"binary".equals(column.charsetName())) {
                    editor.updateColumn(column.edit().charsetName(name).create());
                }
            }
        }
        Table corrected = editor.create();
        return fitsExactly(corrected, charsets) ? corrected : null;
    }

    private static int digits(Column column) {
        return column.length() > 6 ? 0 : Math.max(0, column.length());
    }

    private static boolean isUnsigned(Column column) {
        String type = column.typeName().toUpperCase(Locale.ROOT);
        return type.contains("UNSIGNED") || type.contains("ZEROFILL") || type.contains("SERIAL");
    }

    private boolean isText(int place) {
        return isText(event.getColumnTypes()[place] & 0xff, event.getColumnMetadata()[place]);
    }

    /** The character set of the text column at a place; null where it is not told. */
    private String charset(int place, BinlogCharsetRegistry charsets) {
        int text = (int) IntStream.range(0, place).filter(this::isText).count();
        Integer collation = collation(event.getEventMetadata(), text);
        return collation == null ? null : charsets.getCharsetNameForCollationIndex(collation);
    }

    private static boolean isText(int code, int details) {
        int real = details >> 8;
        return code == VARCHAR || code == BLOB || code == VAR_STRING
            || code == STRING && real != ENUM_TYPE && real != SET_TYPE;
    }

    /** The collation of the text column of a number; null where it is not told. */
    private static Integer collation(TableMapEventMetadata metadata, int text) {
        if (metadata == null) {
            return null;
        }
        List<Integer> all = metadata.getColumnCharsets();
        if (all != null) {
            return text < all.size() ? all.get(text) : null;
        }
        TableMapEventMetadata.DefaultCharset usual = metadata.getDefaultCharset();
        return usual == null ? null
            : usual.getCharsetCollations().getOrDefault(text, usual.getDefaultCharsetCollation());
    }

    private static boolean isCharset(Column column, String name) {
        String type = base(column);
        String believed = type.contains("BINARY") || type.contains("BLOB") ? "binary"
            : column.charsetName();
        return name == null || believed == null || plain(name).equals(plain(believed));
    }

    private static String plain(String charset) {
        String name = charset.toLowerCase(Locale.ROOT);
        return name.equals("utf8mb3") ? "utf8" : name;
    }

    private static String base(Column column) {
        return column.typeName() == null ? ""
            : column.typeName().toUpperCase(Locale.ROOT).split("[ (]", 2)[0];
    }

    /** The names of all columns; null where the binlog has none. */
    static List<String> names(TableMapEventData event) {
        TableMapEventMetadata metadata = event.getEventMetadata();
        List<String> names = metadata == null ? null : metadata.getColumnNames();
        return names == null || names.size() != event.getColumnTypes().length ? null : names;
    }
}
