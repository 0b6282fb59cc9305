package ducklake;

import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.relational.TableId;
import java.time.Instant;
import java.util.HashSet;
import java.util.Set;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What the rows of a table do not tell, as records of a compacted topic: one for each table and
 * kind, in the order of the rows and in their transaction. Whoever settles it writes a tombstone.
 */
final class Notices {
    private static final Logger LOGGER = LoggerFactory.getLogger(Notices.class);
    private static final Schema KEY =
        SchemaBuilder.struct().name("ducklake.NoticeKey")
            .field("notice", Schema.STRING_SCHEMA).build();
    private static final Schema VALUE = SchemaBuilder.struct().name("ducklake.Notice")
        .field("kind", Schema.STRING_SCHEMA)
        .field("database", Schema.STRING_SCHEMA)
        .field("table", Schema.STRING_SCHEMA)
        .field("statement", Schema.STRING_SCHEMA)
        .field("rows", Schema.INT64_SCHEMA)
        .field("file", Schema.STRING_SCHEMA)
        .field("pos", Schema.INT64_SCHEMA)
        .field("ts_ms", Schema.INT64_SCHEMA)
        .build();
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
        Struct value = new Struct(VALUE)
            .put("kind", kind)
            .put("database", table == null ? "" : table.catalog())
            .put("table", name)
            .put("statement", statement)
            .put("rows", rows)
            .put("file", offset.getSource().binlogFilename())
            .put("pos", offset.getSource().binlogPosition())
            .put("ts_ms", moment == null ? 0L : moment.toEpochMilli());
        LOGGER.warn("{} {} at {}:{}: {}", table, kind, value.get("file"), value.get("pos"),
            statement);
        if (topic != null) {
            dispatcher.enqueueNotification(new SourceRecord(partition.getSourcePartition(),
                offset.getOffset(), topic, KEY, new Struct(KEY).put("notice", key), VALUE, value));
        }
    }
}
