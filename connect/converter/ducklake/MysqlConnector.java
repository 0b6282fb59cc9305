package ducklake;

import io.debezium.connector.mysql.MySqlConnector;
import org.apache.kafka.connect.connector.Task;

/**
 * Debezium's MySQL connector, with a task that one odd statement or row does not end: what concerns
 * other tables is skipped, what concerns a followed table holds back that table alone, and what the
 * binlog does not tell becomes a notice (docs/DESIGN.md, "What the binlog does not tell").
 */
public class MysqlConnector extends MySqlConnector {
    @Override
    public Class<? extends Task> taskClass() {
        return MysqlTask.class;
    }
}
