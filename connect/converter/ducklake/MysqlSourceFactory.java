package ducklake;

import com.github.shyiko.mysql.binlog.BinaryLogClient;
import io.debezium.connector.base.ChangeEventQueue;
import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.connector.mysql.MySqlChangeEventSourceFactory;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.connector.mysql.MySqlReadOnlyIncrementalSnapshotChangeEventSource;
import io.debezium.connector.mysql.MySqlStreamingChangeEventSourceMetrics;
import io.debezium.connector.mysql.MySqlTaskContext;
import io.debezium.jdbc.MainConnectionProvidingConnectionFactory;
import io.debezium.pipeline.DataChangeEvent;
import io.debezium.pipeline.ErrorHandler;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.pipeline.notification.NotificationService;
import io.debezium.pipeline.source.snapshot.incremental.IncrementalSnapshotChangeEventSource;
import io.debezium.pipeline.source.spi.DataChangeEventListener;
import io.debezium.pipeline.source.spi.SnapshotProgressListener;
import io.debezium.pipeline.source.spi.StreamingChangeEventSource;
import io.debezium.relational.TableId;
import io.debezium.snapshot.SnapshotterService;
import io.debezium.spi.schema.DataCollectionId;
import io.debezium.util.Clock;
import java.util.Optional;
import java.util.function.Supplier;

/** Debezium's snapshots, and the reader of the binlog that goes on. */
final class MysqlSourceFactory extends MySqlChangeEventSourceFactory {
    private final ChangeEventQueue<DataChangeEvent> queue;
    private final Supplier<MysqlStream> streams;
    private final Rereading rereading;

    /** Makes what reads tables again; the parts are those of this source. */
    private interface Rereading {
        MysqlRereading made(SnapshotProgressListener<MySqlPartition> progress,
            DataChangeEventListener<MySqlPartition> changes,
            NotificationService<MySqlPartition, MySqlOffsetContext> notifications);
    }

    MysqlSourceFactory(MySqlConnectorConfig config,
            MainConnectionProvidingConnectionFactory<BinlogConnectorConnection> connections,
            ErrorHandler errors, EventDispatcher<MySqlPartition, TableId> dispatcher, Clock clock,
            MysqlSchema schema, MySqlTaskContext context,
            MySqlStreamingChangeEventSourceMetrics metrics, ChangeEventQueue<DataChangeEvent> queue,
            SnapshotterService snapshotters, BinaryLogClient client, Charsets charsets) {
        super(config, connections, errors, dispatcher, clock, schema, context, metrics, queue,
            snapshotters, client);
        this.queue = queue;
        this.streams = () -> new MysqlStream(config, connections.mainConnection(), dispatcher,
            errors, clock, context, schema, metrics, snapshotters, client,
            new Server(connections::newConnection), charsets);
        this.rereading = (progress, changes, notifications) -> new MysqlRereading(config,
            connections.mainConnection(), dispatcher, schema, clock, progress, changes,
            notifications);
    }

    @Override
    public StreamingChangeEventSource<MySqlPartition, MySqlOffsetContext>
            getStreamingChangeEventSource() {
        queue.disableBuffering();
        return streams.get();
    }

    @Override
    public Optional<IncrementalSnapshotChangeEventSource<MySqlPartition, ? extends DataCollectionId>>
            getIncrementalSnapshotChangeEventSource(MySqlOffsetContext offset,
                SnapshotProgressListener<MySqlPartition> progress,
                DataChangeEventListener<MySqlPartition> changes,
                NotificationService<MySqlPartition, MySqlOffsetContext> notifications) {
        // Debezium's own choice says whether the server and the settings allow it at all.
        return super.getIncrementalSnapshotChangeEventSource(offset, progress, changes, notifications)
            .map(own -> own instanceof MySqlReadOnlyIncrementalSnapshotChangeEventSource
                ? rereading.made(progress, changes, notifications) : own);
    }
}
