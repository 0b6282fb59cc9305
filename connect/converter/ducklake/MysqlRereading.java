package ducklake;

import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.connector.mysql.MySqlReadOnlyIncrementalSnapshotChangeEventSource;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.pipeline.notification.NotificationService;
import io.debezium.pipeline.signal.SignalPayload;
import io.debezium.pipeline.signal.actions.snapshotting.SnapshotConfiguration;
import io.debezium.pipeline.source.spi.DataChangeEventListener;
import io.debezium.pipeline.source.spi.SnapshotProgressListener;
import io.debezium.pipeline.spi.OffsetContext;
import io.debezium.relational.TableId;
import io.debezium.util.Clock;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Debezium's incremental snapshots, begun by the thread that reads the binlog.
 *
 * <p>Debezium begins one in the thread that receives the signal, while the reader of the binlog goes
 * on: both then read chunks over one connection into one window, so that the reader could close the
 * window before the chunk was complete. Rows got lost in it, or the snapshot failed. Here a signal
 * waits for the reader: between two transactions, or when the binlog has been silent for a second.
 */
final class MysqlRereading extends MySqlReadOnlyIncrementalSnapshotChangeEventSource {
    private static final Logger LOG = LoggerFactory.getLogger(MysqlRereading.class);

    private record Asked(SignalPayload<MySqlPartition> payload, SnapshotConfiguration wanted) {
    }

    private final Queue<Asked> asked = new ConcurrentLinkedQueue<>();

    MysqlRereading(MySqlConnectorConfig config, BinlogConnectorConnection connection,
            EventDispatcher<MySqlPartition, TableId> dispatcher, MysqlSchema schema, Clock clock,
            SnapshotProgressListener<MySqlPartition> progress,
            DataChangeEventListener<MySqlPartition> changes,
            NotificationService<MySqlPartition, MySqlOffsetContext> notifications) {
        super(config, connection, dispatcher, schema, clock, progress, changes, notifications);
    }

    @Override
    public void addDataCollectionNamesToSnapshot(SignalPayload<MySqlPartition> payload,
            SnapshotConfiguration wanted) {
        asked.add(new Asked(payload, wanted));
    }

    @Override
    public void processHeartbeat(MySqlPartition partition, OffsetContext offset)
            throws InterruptedException {
        begin();
        super.processHeartbeat(partition, offset);
    }

    @Override
    public void processTransactionStartedEvent(MySqlPartition partition, OffsetContext offset)
            throws InterruptedException {
        begin();
        super.processTransactionStartedEvent(partition, offset);
    }

    @Override
    public void processTransactionCommittedEvent(MySqlPartition partition, OffsetContext offset)
            throws InterruptedException {
        begin();
        super.processTransactionCommittedEvent(partition, offset);
    }

    private void begin() throws InterruptedException {
        for (Asked next = asked.poll(); next != null; next = asked.poll()) {
            try {
                super.addDataCollectionNamesToSnapshot(next.payload(), next.wanted());
            } catch (RuntimeException failed) {
                // As where signals are received: a bad one does not end the reading of the binlog.
                LOG.warn("The signal {} was not followed.", next.payload().id, failed);
            }
        }
    }
}
