package ducklake;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.Driver;
import java.sql.DriverPropertyInfo;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Locale;
import java.util.Properties;
import java.util.StringJoiner;
import java.util.logging.Logger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * MySQL's driver with one difference: a prepared <code>SELECT * FROM `database`.`table`</code>, with
 * which Debezium reads the chunks of an incremental snapshot, names its columns, so that every value
 * comes as it is. Debezium lets nobody choose the columns of that query.
 *
 * <ul>
 *   <li>Of a FLOAT, MySQL prints six digits; as a DOUBLE it is exact.
 *   <li>JDBC reads a DATETIME with a calendar that has no 5 to 14 October 1582; such a value comes as
 *       text that is marked, which {@link MysqlValues} takes as it is.
 * </ul>
 */
public class ExactDriver implements Driver {
    private static final String MYSQL = "com.mysql.cj.jdbc.Driver";
    private static final Pattern CHUNK = Pattern.compile(
        "^SELECT \\* FROM (`(?:[^`]|``)+`)\\.(`(?:[^`]|``)+`)(?= |$)", Pattern.CASE_INSENSITIVE);
    private static final String COLUMNS = "SELECT column_name, data_type FROM"
        + " information_schema.columns WHERE table_schema = ? AND table_name = ?"
        + " ORDER BY ordinal_position"; // invisible columns, too: the binlog has them

    private final Driver driver;

    public ExactDriver() throws ReflectiveOperationException {
        driver = (Driver) Class.forName(MYSQL).getDeclaredConstructor().newInstance();
    }

    @Override
    public Connection connect(String url, Properties properties) throws SQLException {
        Connection connection = driver.connect(url, properties);
        return connection == null ? null : exact(connection);
    }

    private static Connection exact(Connection connection) {
        return (Connection) Proxy.newProxyInstance(
            ExactDriver.class.getClassLoader(), new Class<?>[] {Connection.class},
            (proxy, method, arguments) -> {
                if (method.getName().equals("prepareStatement")) {
                    arguments[0] = exact(connection, (String) arguments[0]);
                }
                try {
                    return method.invoke(connection, arguments);
                } catch (InvocationTargetException error) {
                    throw error.getCause();
                }
            });
    }

    private static String exact(Connection connection, String sql) throws SQLException {
        Matcher chunk = CHUNK.matcher(sql);
        if (!chunk.find()) {
            return sql;
        }
        StringJoiner columns = new StringJoiner(", ");
        try (PreparedStatement statement = connection.prepareStatement(COLUMNS)) {
            statement.setString(1, unquoted(chunk.group(1)));
            statement.setString(2, unquoted(chunk.group(2)));
            try (ResultSet found = statement.executeQuery()) {
                while (found.next()) {
                    columns.add(expression(found.getString(1), found.getString(2)));
                }
            }
        }
        return columns.length() == 0 ? sql
            : "SELECT " + columns + " FROM " + sql.substring(chunk.start(1));
    }

    private static String expression(String name, String type) {
        String column = "`" + name.replace("`", "``") + "`";
        return switch (type.toLowerCase(Locale.ROOT)) {
            case "float" -> column + " + 0e0 AS " + column;
            case "datetime" -> "IF(" + column + " >= '1582-10-05' AND " + column
                + " < '1582-10-15', CONCAT('=', " + column + "), " + column + ") AS " + column;
            default -> column;
        };
    }

    private static String unquoted(String name) {
        return name.substring(1, name.length() - 1).replace("``", "`");
    }

    @Override
    public boolean acceptsURL(String url) throws SQLException {
        return driver.acceptsURL(url);
    }

    @Override
    public DriverPropertyInfo[] getPropertyInfo(String url, Properties properties)
            throws SQLException {
        return driver.getPropertyInfo(url, properties);
    }

    @Override
    public int getMajorVersion() {
        return driver.getMajorVersion();
    }

    @Override
    public int getMinorVersion() {
        return driver.getMinorVersion();
    }

    @Override
    public boolean jdbcCompliant() {
        return driver.jdbcCompliant();
    }

    @Override
    public Logger getParentLogger() throws java.sql.SQLFeatureNotSupportedException {
        return driver.getParentLogger();
    }
}
