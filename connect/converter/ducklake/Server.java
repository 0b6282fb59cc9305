package ducklake;

import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.relational.TableId;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What the server itself answers about tables, beside the binlog. */
final class Server {
    private static final Logger LOGGER = LoggerFactory.getLogger(Server.class);
    private static final int TRIES = 5;
    /** Of InnoDB's, which the binlog has not. */
    private static final Set<String> INTERNAL = Set.of("DB_ROW_ID", "DB_TRX_ID", "DB_ROLL_PTR");
    private static final String CASCADES =
        "SELECT k.referenced_table_schema, k.referenced_table_name, k.table_schema, k.table_name,"
        + " r.delete_rule, r.update_rule, c.ordinal_position"
        + " FROM information_schema.key_column_usage k"
        + " JOIN information_schema.referential_constraints r"
        + " ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name"
        + " AND r.table_name = k.table_name"
        + " JOIN information_schema.columns c ON c.table_schema = k.referenced_table_schema"
        + " AND c.table_name = k.referenced_table_name AND c.column_name = k.referenced_column_name"
        + " WHERE k.referenced_table_name IS NOT NULL"
        + " AND (r.delete_rule NOT IN ('RESTRICT', 'NO ACTION')"
        + " OR r.update_rule NOT IN ('RESTRICT', 'NO ACTION'))";

    /** A place in the binlog. */
    record Position(String file, long position) implements Comparable<Position> {
        @Override
        public int compareTo(Position other) {
            int files = Long.compare(number(file), number(other.file));
            return files != 0 ? files : Long.compare(position, other.position);
        }

        private static long number(String file) {
            String digits = file == null ? "" : file.substring(file.lastIndexOf('.') + 1);
            return digits.matches("\\d+") ? Long.parseLong(digits) : 0;
        }
    }

    /** A definition, and the end of the binlog at a moment at which it held. */
    record Definition(String createTable, Position end) {
    }

    /** A foreign key through which a change of one table changes another. */
    record Cascade(TableId parent, TableId child, boolean deletes, boolean updates, int column) {
    }

    private final Supplier<BinlogConnectorConnection> connections;

    Server(Supplier<BinlogConnectorConnection> connections) {
        this.connections = connections;
    }

    /** A table's definition; null where there is no such table, or no answer. */
    Definition definition(TableId id) {
        String show = "SHOW CREATE TABLE " + quoted(id.catalog()) + "." + quoted(id.table());
        try (BinlogConnectorConnection connection = connections.get()) {
            for (int i = 0; i < TRIES; i++) {
                String before = text(connection, show, 2);
                Position end = end(connection);
                // the same before and after: it held at this end of the binlog
                if (before != null && before.equals(text(connection, show, 2))) {
                    return new Definition(before, end);
                }
            }
        } catch (SQLException | RuntimeException error) {
            LOGGER.warn("The definition of {} cannot be read: {}", id, error.getMessage());
        }
        return null;
    }

    /** The columns of a table in the order that the binlog has, and those no definition shows. */
    record Layout(List<String> columns, Set<String> hidden) {
    }

    /** How a table's columns are laid out; empty without an answer. */
    Layout layout(TableId id) {
        String table = quoted(id.catalog()) + "." + quoted(id.table());
        List<String> found = new ArrayList<>();
        Set<String> hidden = new HashSet<>();
        try (BinlogConnectorConnection connection = connections.get()) {
            connection.query("SHOW EXTENDED COLUMNS FROM " + table, rows -> {
                while (rows.next()) {
                    if (!INTERNAL.contains(rows.getString(1))) {
                        found.add(rows.getString(1));
                    }
                }
            });
            hidden.addAll(found);
            connection.query("SHOW COLUMNS FROM " + table, rows -> {
                while (rows.next()) {
                    hidden.remove(rows.getString(1));
                }
            });
        } catch (SQLException | RuntimeException error) {
            LOGGER.warn("The columns of {} cannot be read: {}", id, error.getMessage());
            return new Layout(List.of(), Set.of());
        }
        return new Layout(found, hidden);
    }

    List<Cascade> cascades() {
        List<Cascade> found = new ArrayList<>();
        try (BinlogConnectorConnection connection = connections.get()) {
            connection.query(CASCADES, rows -> {
                while (rows.next()) {
                    found.add(new Cascade(new TableId(rows.getString(1), null, rows.getString(2)),
                        new TableId(rows.getString(3), null, rows.getString(4)),
                        acts(rows.getString(5)), acts(rows.getString(6)), rows.getInt(7) - 1));
                }
            });
        } catch (SQLException | RuntimeException error) {
            LOGGER.warn("The foreign keys cannot be read: {}", error.getMessage());
            return null;
        }
        return found;
    }

    private static boolean acts(String rule) {
        return !Arrays.asList("RESTRICT", "NO ACTION").contains(rule);
    }

    private static Position end(BinlogConnectorConnection connection) throws SQLException {
        Position[] found = new Position[1];
        try {
            connection.query("SHOW MASTER STATUS", rows -> {
                if (rows.next()) {
                    found[0] = new Position(rows.getString(1), rows.getLong(2));
                }
            });
        } catch (SQLException error) {
            connection.query("SHOW BINARY LOG STATUS", rows -> {
                if (rows.next()) {
                    found[0] = new Position(rows.getString(1), rows.getLong(2));
                }
            });
        }
        return found[0];
    }

    private static String text(BinlogConnectorConnection connection, String sql, int column)
            throws SQLException {
        return connection.queryAndMap(sql, rows -> rows.next() ? rows.getString(column) : null);
    }

    private static String quoted(String name) {
        return "`" + name.replace("`", "``") + "`";
    }
}
