package ducklake;

import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.spi.converter.RelationalColumn;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The members of an ENUM or a SET. MySQL shows a definition with '?' for each character of four
 * bytes; what such a member really is, a row of the table says.
 */
final class Members {
    private static final Logger LOGGER = LoggerFactory.getLogger(Members.class);
    private static final Map<String, Supplier<BinlogConnectorConnection>> SERVERS =
        new ConcurrentHashMap<>();
    private static final long AGAIN_NANOS = 60_000_000_000L;

    private final List<String> shown;
    private final String server;
    private final String table;
    private final String column;
    private final Map<Long, String> asked = new HashMap<>();
    private final Map<Long, Long> missed = new HashMap<>();

    /**
     * Members as a definition shows them.
     *
     * @param shown in their order
     * @param column whose they are
     * @param server the name under which its server was made known
     */
    Members(List<String> shown, RelationalColumn column, String server) {
        this.shown = shown;
        this.server = server;
        this.table = column.dataCollection();
        this.column = column.name();
    }

    /** Make known whom the columns of a task can ask. */
    static void know(String server, Supplier<BinlogConnectorConnection> connections) {
        SERVERS.put(server, connections);
    }

    static void forget(String server) {
        SERVERS.remove(server);
    }

    /** The member of a number; that of 0 is the error value, which is empty. */
    String member(int number) {
        return number == 0 ? "" : exact(number, shown.get(number - 1));
    }

    /** The members whose bits are set, separated by commas. */
    String set(long bits) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < shown.size(); i++) {
            if ((bits >> i & 1) == 1) {
                text.append(text.isEmpty() ? "" : ",").append(shown.get(i));
            }
        }
        return exact(bits, text.toString());
    }

    private String exact(long number, String text) {
        if (text.indexOf('?') < 0 || !SERVERS.containsKey(server)) {
            return text;
        }
        String known = asked.get(number);
        long now = System.nanoTime();
        if (known == null && now - missed.getOrDefault(number, now - AGAIN_NANOS) >= AGAIN_NANOS) {
            known = ask(number);
            // another one, if the definition has changed since
            known = known != null && asShown(known).equals(text) ? known : null;
            if (known == null) {
                missed.put(number, now);
            } else {
                asked.put(number, known);
            }
        }
        return known == null ? text : known;
    }

    private String ask(long number) {
        int dot = table.indexOf('.');
        String sql = "SELECT CAST(" + quoted(column) + " AS CHAR) FROM "
            + quoted(table.substring(0, dot)) + "." + quoted(table.substring(dot + 1)) + " WHERE "
            + quoted(column) + " = " + number + " LIMIT 1";
        try (BinlogConnectorConnection connection = SERVERS.get(server).get()) {
            return connection.queryAndMap(sql, rows -> rows.next() ? rows.getString(1) : null);
        } catch (SQLException | RuntimeException error) {
            LOGGER.warn("The members of {}.{} cannot be read: {}", table, column,
                error.getMessage());
            return null;
        }
    }

    private static String asShown(String text) {
        StringBuilder found = new StringBuilder();
        text.codePoints().forEach(c -> found.appendCodePoint(c > 0xffff ? '?' : c));
        return found.toString();
    }

    private static String quoted(String name) {
        return "`" + name.replace("`", "``") + "`";
    }
}
