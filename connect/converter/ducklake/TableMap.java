package ducklake;

import com.github.shyiko.mysql.binlog.event.TableMapEventData;
import com.github.shyiko.mysql.binlog.event.TableMapEventMetadata;
import io.debezium.relational.Column;
import io.debezium.relational.Table;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

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

    TableMap(TableMapEventData event) {
        this.event = event;
    }

    /** Whether it names the columns (binlog_row_metadata=FULL). */
    boolean namesColumns() {
        return names() != null;
    }

    /** Whether rows of these columns can be told apart by a definition. */
    boolean fits(Table table) {
        byte[] types = event.getColumnTypes();
        List<Column> columns = table.columns();
        if (columns.size() != types.length) {
            return false;
        }
        List<String> names = names();
        for (int i = 0; i < types.length; i++) {
            Column column = columns.get(i);
            if (names != null && !names.get(i).equals(column.name())) {
                return false;
            }
            String type = column.typeName() == null ? ""
                : column.typeName().toUpperCase(Locale.ROOT).split("[ (]", 2)[0];
            Set<Integer> codes = CODES.get(type);
            int code = types[i] & 0xff;
            if (codes == null ? CODES_ALONE.contains(code) : !codes.contains(code)) {
                return false;
            }
        }
        return true;
    }

    /** Codes of one type only: no text and no type that is unknown here has them. */
    private static final Set<Integer> CODES_ALONE =
        Set.of(0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 245, 246);

    private List<String> names() {
        TableMapEventMetadata metadata = event.getEventMetadata();
        List<String> names = metadata == null ? null : metadata.getColumnNames();
        return names == null || names.size() != event.getColumnTypes().length ? null : names;
    }
}
