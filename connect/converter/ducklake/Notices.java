package ducklake;

import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.relational.TableId;
import java.time.Instant;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.connect.source.SourceRecord;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What the rows of a table do not tell, as records of a compacted topic: one for each table and
 * kind, in the order of the rows and in their transaction. Whoever settles it writes a tombstone.
 */
final class Notices {
    private static final Logger LOGGER = LoggerFactory.getLogger(Notices.class);
    static final String TOPIC = "ducklake.notices.topic";

    private final EventDispatcher<MySqlPartition, TableId> dispatcher;
    private final String topic;
    private final Set<String> told = new HashSet<>();

    Notices(EventDispatcher<MySqlPartition, TableId> dispatcher, String topic) {
        this.dispatcher = dispatcher;
        this.topic = topic;
    }

    /** A transaction tells each thing once. */
    void nextTransaction() {
        told.clear();
    }

    /**
     * Tell something.
     *
     * @param table the table; null where nobody knows which
     * @param kind a name of producers/mysql/notices.py
     * @param statement the statement that is the reason, without its texts; may be empty
     * @param rows how many rows were left out
     */
    void tell(MySqlPartition partition, MySqlOffsetContext offset, Instant moment, TableId table,
            String kind, String statement, long rows) throws InterruptedException {
        String name = table == null ? "" : table.table();
        String key = (table == null ? "" : table.catalog() + "." + name) + ":" + kind;
        if (!told.add(key)) {
            return;
        }
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("kind", kind);
        value.put("database", table == null ? "" : table.catalog());
        value.put("table", name);
        value.put("statement", statement);
        value.put("rows", rows);
        value.put("file", offset.getSource().binlogFilename());
        value.put("pos", offset.getSource().binlogPosition());
        value.put("ts_ms", moment == null ? 0 : moment.toEpochMilli());
        LOGGER.warn("{} {} at {}:{}: {}", table, kind, value.get("file"), value.get("pos"),
            statement);
        if (topic != null) {
            dispatcher.enqueueNotification(new SourceRecord(partition.getSourcePartition(),
                offset.getOffset(), topic, null, null, key, null, value));
        }
    }
}
