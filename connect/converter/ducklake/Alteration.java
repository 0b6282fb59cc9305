package ducklake;

import io.debezium.relational.Column;
import io.debezium.relational.Table;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/**
 * What a change of a definition does to the rows that are there, which no event of the binlog tells.
 * Only changes that leave every value as it was are passed over; MySQL writes the table anew for most
 * of the others.
 */
final class Alteration {
    /** Rows have other values, or have them under another name or key. */
    static final String CHANGED = "values_changed";
    /** Rows have a value in a new column. */
    static final String FILLED = "column_filled";
    /** Rows have NULL in a new column; in the lake, in one that was dropped, what they had before. */
    static final String ADDED = "column_added";

    private static final Map<String, Integer> INTEGERS = Map.ofEntries(
        Map.entry("TINYINT", 1), Map.entry("INT1", 1), Map.entry("BOOL", 1),
        Map.entry("BOOLEAN", 1), Map.entry("SMALLINT", 2), Map.entry("INT2", 2),
        Map.entry("MEDIUMINT", 3), Map.entry("MIDDLEINT", 3), Map.entry("INT3", 3),
        Map.entry("INT", 4), Map.entry("INTEGER", 4), Map.entry("INT4", 4),
        Map.entry("BIGINT", 8), Map.entry("INT8", 8), Map.entry("SERIAL", 8));
    private static final List<String> TEXTS =
        List.of("CHAR", "VARCHAR", "TEXT", "MEDIUMTEXT", "LONGTEXT");
    private static final List<String> BYTES =
        List.of("BINARY", "VARBINARY", "BLOB", "MEDIUMBLOB", "LONGBLOB");
    private static final Set<String> DECIMALS = Set.of("DECIMAL", "NUMERIC", "DEC", "FIXED");
    private static final Set<String> MOMENTS = Set.of("DATETIME", "TIMESTAMP", "TIME");

    private final Table before;
    private final Table after;
    private final Statement statement;
    private final boolean strict;

    /**
     * Make one.
     *
     * @param before the definition before the statement; null if it was not known
     * @param after the definition after it; null if it is not known
     * @param statement what changed it
     * @param strict whether MySQL refuses a change that a value does not survive
     */
    Alteration(Table before, Table after, Statement statement, boolean strict) {
        this.before = before;
        this.after = after;
        this.statement = statement;
        this.strict = strict;
    }

    /** What it does, as the kind of a notice; null: nothing. */
    String kind() {
        if (before != null && after != null) {
            if (statement.renamesColumn() || statement.convertsText() || !keepsKey()
                    || after.columns().stream().anyMatch(this::changes)) {
                return CHANGED;
            }
            if (after.columns().stream().anyMatch(this::fills)) {
                return FILLED;
            }
        }
        if (statement.generates()) {
            return FILLED;
        }
        return before != null && after != null && after.columns().stream().anyMatch(this::isNew)
            ? ADDED : null;
    }

    private boolean keepsKey() {
        return before.primaryKeyColumnNames().equals(after.primaryKeyColumnNames());
    }

    private boolean isNew(Column column) {
        return before.columnWithName(column.name()) == null;
    }

    private boolean fills(Column column) {
        if (!isNew(column)) {
            return false;
        }
        String value = column.defaultValueExpression().orElse("NULL");
        // without explicit_defaults_for_timestamp, MySQL takes one for NOT NULL unless told
        boolean filled = base(column).equals("TIMESTAMP") && !statement.hasWord("NULL");
        return filled || !column.isOptional() || column.isGenerated()
            || !value.equalsIgnoreCase("NULL") || statement.hasDefault();
    }

    private boolean changes(Column now) {
        Column old = before.columnWithName(now.name());
        if (old == null) {
            return false;
        }
        return statement.dropsColumn(now.name())
            || old.isOptional() && !now.isOptional() && !strict
            || !keeps(old, now);
    }

    /** Whether every value of a type is the same value of another one. */
    private static boolean keeps(Column old, Column now) {
        String from = base(old);
        String to = base(now);
        if (INTEGERS.containsKey(from) && INTEGERS.containsKey(to)) {
            int grows = INTEGERS.get(to) - INTEGERS.get(from);
            return isUnsigned(old) == isUnsigned(now) ? grows >= 0 : isUnsigned(old) && grows > 0;
        }
        if (DECIMALS.contains(from) && DECIMALS.contains(to)) {
            int more = now.scale().orElse(0) - old.scale().orElse(0);
            return more >= 0 && now.length() - old.length() >= more
                && (isUnsigned(old) || !isUnsigned(now));
        }
        if (TEXTS.contains(from) && TEXTS.contains(to)) {
            return grows(TEXTS, from, to, old, now) && isSameText(old, now);
        }
        if (BYTES.contains(from) && BYTES.contains(to)) {
            boolean padded = to.equals("BINARY") && old.length() != now.length();
            return !padded && grows(BYTES, from, to, old, now);
        }
        if (!from.equals(to)) {
            return false;
        }
        if (MOMENTS.contains(to)) {
            return now.length() >= old.length();
        }
        return switch (to) {
            case "ENUM" -> now.enumValues().containsAll(old.enumValues()) && isSameText(old, now);
            case "SET" -> now.enumValues().size() >= old.enumValues().size()
                && now.enumValues().subList(0, old.enumValues().size()).equals(old.enumValues())
                && isSameText(old, now);
            default -> now.length() == old.length() && now.scale().equals(old.scale())
                && isUnsigned(old) == isUnsigned(now) && isSameText(old, now);
        };
    }

    /** From a shorter kind to a longer one; of those with a length, none that is less. */
    private static boolean grows(List<String> kinds, String from, String to, Column old,
            Column now) {
        int kind = kinds.indexOf(to);
        return kind >= kinds.indexOf(from) && (kind > 1 || now.length() >= old.length());
    }

    private static boolean isSameText(Column old, Column now) {
        String charset = plain(now);
        return charset.isEmpty() || plain(old).isEmpty() || charset.equals(plain(old))
            || charset.equals("utf8mb4");
    }

    private static String plain(Column column) {
        String name = Objects.requireNonNullElse(column.charsetName(), "").toLowerCase(Locale.ROOT);
        return name.equals("utf8mb3") ? "utf8" : name;
    }

    private static boolean isUnsigned(Column column) {
        String type = column.typeName().toUpperCase(Locale.ROOT);
        return type.contains("UNSIGNED") || type.contains("ZEROFILL") || type.contains("SERIAL");
    }

    private static String base(Column column) {
        return Objects.requireNonNullElse(column.typeName(), "")
            .toUpperCase(Locale.ROOT).split("[ (]", 2)[0];
    }
}
