package ducklake;

import com.github.shyiko.mysql.binlog.BinaryLogClient;
import io.debezium.connector.base.ChangeEventQueue;
import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.connector.mysql.MySqlChangeEventSourceFactory;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.connector.mysql.MySqlStreamingChangeEventSourceMetrics;
import io.debezium.connector.mysql.MySqlTaskContext;
import io.debezium.jdbc.MainConnectionProvidingConnectionFactory;
import io.debezium.pipeline.DataChangeEvent;
import io.debezium.pipeline.ErrorHandler;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.pipeline.source.spi.StreamingChangeEventSource;
import io.debezium.relational.TableId;
import io.debezium.snapshot.SnapshotterService;
import io.debezium.util.Clock;
import java.util.function.Supplier;

/** Debezium's snapshots, and the reader of the binlog that goes on. */
final class MysqlSourceFactory extends MySqlChangeEventSourceFactory {
    private final ChangeEventQueue<DataChangeEvent> queue;
    private final Supplier<MysqlStream> streams;

    MysqlSourceFactory(MySqlConnectorConfig config,
            MainConnectionProvidingConnectionFactory<BinlogConnectorConnection> connections,
            ErrorHandler errors, EventDispatcher<MySqlPartition, TableId> dispatcher, Clock clock,
            MysqlSchema schema, MySqlTaskContext context,
            MySqlStreamingChangeEventSourceMetrics metrics, ChangeEventQueue<DataChangeEvent> queue,
            SnapshotterService snapshotters, BinaryLogClient client) {
        super(config, connections, errors, dispatcher, clock, schema, context, metrics, queue,
            snapshotters, client);
        this.queue = queue;
        this.streams = () -> new MysqlStream(config, connections.mainConnection(), dispatcher,
            errors, clock, context, schema, metrics, snapshotters, client,
            new Server(connections::newConnection));
    }

    @Override
    public StreamingChangeEventSource<MySqlPartition, MySqlOffsetContext>
            getStreamingChangeEventSource() {
        queue.disableBuffering();
        return streams.get();
    }
}
