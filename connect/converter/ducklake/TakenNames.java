package ducklake;

import io.debezium.relational.Table;
import io.debezium.relational.TableEditor;
import io.debezium.relational.TableId;
import io.debezium.relational.Tables;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Names that an ALTER TABLE gives to columns while others still have them. To MySQL all clauses of a
 * statement happen at once; Debezium follows one after the other and loses a column of two that
 * change names. Here the new name is a temporary one until the statement's end.
 */
final class TakenNames {
    /** No name in MySQL has this character. */
    private static final char TEMPORARY = '\0';

    /** The temporary name by the place of the name in the statement, in code points. */
    private final Map<Integer, String> places = new HashMap<>();
    /** The new name by the temporary one. */
    private final Map<String, String> names = new LinkedHashMap<>();
    private final boolean concernsKeys;

    /**
     * Find them.
     *
     * @param statement the statement
     * @param sql its text
     * @param before the table that it alters, as it was; null if there is none
     */
    TakenNames(Statement statement, String sql, Table before) {
        concernsKeys = statement.hasWord("PRIMARY") || statement.hasWord("UNIQUE");
        Map<String, String> temporary = new HashMap<>();
        for (Statement.Token token : statement.newColumns()) {
            String lower = token.text().toLowerCase(Locale.ROOT);
            if (before != null && before.columnWithName(token.text()) != null) {
                String name = temporary.computeIfAbsent(lower, same -> TEMPORARY + lower);
                names.put(name, token.text());
                places.put(sql.codePointCount(0, token.at()), name);
            }
        }
        for (Statement.Token token : statement.precedingColumns()) {
            String name = temporary.get(token.text().toLowerCase(Locale.ROOT));
            if (name != null) {
                places.put(sql.codePointCount(0, token.at()), name);
            }
        }
    }

    /** The temporary name that stands for the one at a place; null: it stays. */
    String at(int place) {
        return places.get(place);
    }

    /** Give the columns their names, after the statement was followed. */
    void give(Tables tables) {
        if (names.isEmpty()) {
            return;
        }
        if (concernsKeys) {
            throw new IllegalArgumentException("A key is defined while columns change names.");
        }
        // it may have another name by now
        for (TableId id : Set.copyOf(tables.tableIds())) {
            Table table = tables.forTable(id);
            if (names.keySet().stream().allMatch(name -> table.columnWithName(name) != null)) {
                tables.overwriteTable(named(table));
                return;
            }
        }
        throw new IllegalArgumentException("A column that changes its name is not known.");
    }

    private Table named(Table table) {
        TableEditor editor = table.edit();
        names.forEach((temporary, name) -> {
            if (editor.columnWithName(name) != null) {
                throw new IllegalArgumentException("Two columns would have the name " + name);
            }
            editor.renameColumn(temporary, name);
        });
        return editor.create();
    }
}
