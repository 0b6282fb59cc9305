package ducklake;

import com.github.shyiko.mysql.binlog.BinaryLogClient;
import io.debezium.DebeziumException;
import io.debezium.bean.StandardBeanNames;
import io.debezium.bean.spi.BeanRegistry;
import io.debezium.config.CommonConnectorConfig;
import io.debezium.config.Configuration;
import io.debezium.config.Field;
import io.debezium.connector.base.ChangeEventQueue;
import io.debezium.connector.base.QueueProviderService;
import io.debezium.connector.binlog.BinlogSourceTask;
import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.connector.common.CdcSourceTaskContext;
import io.debezium.connector.common.DebeziumHeaderProducer;
import io.debezium.connector.mysql.Module;
import io.debezium.connector.mysql.MySqlChangeEventSourceMetricsFactory;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlErrorHandler;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.connector.mysql.MySqlStreamingChangeEventSourceMetrics;
import io.debezium.connector.mysql.MySqlTaskContext;
import io.debezium.connector.mysql.jdbc.MySqlConnection;
import io.debezium.connector.mysql.jdbc.MySqlConnectionConfiguration;
import io.debezium.connector.mysql.jdbc.MySqlFieldReaderResolver;
import io.debezium.connector.mysql.jdbc.MySqlValueConverters;
import io.debezium.document.DocumentReader;
import io.debezium.heartbeat.Heartbeat;
import io.debezium.heartbeat.HeartbeatFactory;
import io.debezium.jdbc.DefaultMainConnectionProvidingConnectionFactory;
import io.debezium.jdbc.MainConnectionProvidingConnectionFactory;
import io.debezium.pipeline.ChangeEventSourceCoordinator;
import io.debezium.pipeline.DataChangeEvent;
import io.debezium.pipeline.ErrorHandler;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.pipeline.GuardrailValidator;
import io.debezium.pipeline.notification.NotificationService;
import io.debezium.pipeline.signal.SignalProcessor;
import io.debezium.pipeline.spi.Offsets;
import io.debezium.relational.CustomConverterRegistry;
import io.debezium.relational.TableId;
import io.debezium.schema.SchemaFactory;
import io.debezium.schema.SchemaNameAdjuster;
import io.debezium.service.Service;
import io.debezium.snapshot.SnapshotterService;
import io.debezium.spi.topic.TopicNamingStrategy;
import io.debezium.util.Clock;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import org.apache.kafka.connect.source.SourceRecord;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The task of {@link MysqlConnector}: the parts of Debezium's own task, with {@link MysqlSchema} and
 * {@link MysqlStream} in the place of its schema and of its reader of the binlog. Debezium has no
 * setting for either, so the parts are put together here.
 */
public class MysqlTask extends BinlogSourceTask<MySqlPartition, MySqlOffsetContext> {
    private static final Logger LOG = LoggerFactory.getLogger(MysqlTask.class);
    private static final int FETCHED_ROWS = 10_000;

    private static final String CONVERTER = "exact"; // its name in connect/mysql.json

    private final String server = UUID.randomUUID().toString();
    private final Deque<AutoCloseable> open = new ArrayDeque<>();
    private MySqlConnectorConfig config;
    private MySqlTaskContext context;
    private MysqlSchema schema;
    private BinlogConnectorConnection connection;
    private volatile ChangeEventQueue<DataChangeEvent> queue;
    private volatile ErrorHandler errors;

    @Override
    public String version() {
        return Module.version();
    }

    @Override
    protected String connectorName() {
        return Module.name();
    }

    @Override
    protected Iterable<Field> getAllConfigurationFields() {
        return MySqlConnectorConfig.ALL_FIELDS;
    }

    @Override
    public CdcSourceTaskContext<? extends CommonConnectorConfig> preStart(Configuration settings) {
        config = new MySqlConnectorConfig(settings.edit()
            .with(CONVERTER + "." + MysqlValues.SERVER, server).build());
        context = new MySqlTaskContext(settings, config);
        return context;
    }

    @Override
    public ChangeEventSourceCoordinator<MySqlPartition, MySqlOffsetContext> start(
            Configuration given) {
        Configuration settings = streaming(given);
        var connections = new DefaultMainConnectionProvidingConnectionFactory<
            BinlogConnectorConnection>(() -> connected(settings));
        connection = opened(connections.mainConnection());
        var offsets = getPreviousOffsets(new MySqlPartition.Provider(config, settings),
            new MySqlOffsetContext.Loader(config));
        TopicNamingStrategy<TableId> topics =
            config.getTopicNamingStrategy(MySqlConnectorConfig.TOPIC_NAMING_STRATEGY);
        registerServiceProviders(config.getServiceRegistry());
        Members.know(server, connections::newConnection);
        var charsets = new Charsets(connections::newConnection);
        MySqlValueConverters values = new MysqlText(config, charsets);
        schema = opened(new MysqlSchema(config, values, topics, config.schemaNameAdjuster(),
            connection.isTableIdCaseSensitive(), service(CustomConverterRegistry.class), context));
        register(settings, values, offsets, opened(connections.newConnection()));
        recover(offsets);
        return streaming(settings, connections, offsets, topics, charsets);
    }

    /** Rows are read as they come: no answer to a query is held as a whole. */
    private Configuration streaming(Configuration given) {
        return given.edit()
            .withDefault("database.responseBuffering", "adaptive")
            .withDefault("database.fetchSize", FETCHED_ROWS)
            .withDefault("database.useCursorFetch", config.useCursorFetch())
            .build();
    }

    private MySqlConnection connected(Configuration settings) {
        return new MySqlConnection(new MySqlConnectionConfiguration(settings),
            MySqlFieldReaderResolver.resolve(config));
    }

    /** What Debezium's services look up by name. */
    private void register(Configuration settings, MySqlValueConverters values,
            Offsets<MySqlPartition, MySqlOffsetContext> offsets,
            BinlogConnectorConnection forServices) {
        BeanRegistry beans = config.getBeanRegistry();
        Map.of(
            StandardBeanNames.CONFIGURATION, settings,
            StandardBeanNames.CONNECTOR_CONFIG, config,
            StandardBeanNames.DATABASE_SCHEMA, schema,
            StandardBeanNames.JDBC_CONNECTION, forServices,
            StandardBeanNames.VALUE_CONVERTER, values,
            StandardBeanNames.OFFSETS, offsets,
            StandardBeanNames.CDC_SOURCE_TASK_CONTEXT, context
        ).forEach(beans::add);
    }

    /** See that the server has what is asked for, and read the tables' definitions again. */
    private void recover(Offsets<MySqlPartition, MySqlOffsetContext> offsets) {
        var snapshotter = service(SnapshotterService.class).getSnapshotter();
        validateBinlogConfiguration(snapshotter, connection);
        if (validateSnapshotFeasibility(snapshotter, offsets.getTheOnlyOffset(), connection)) {
            offsets.resetOffset(offsets.getTheOnlyPartition());
        }
        try {
            if (config.getGuardrailCollectionsMax() > 0) {
                new GuardrailValidator(config, schema).validate(connection.getAllTableIds());
            }
            // A history takes long to read: the server may end a connection that is idle meanwhile.
            connection.close();
            validateSchemaHistory(config, connection::validateLogPosition, offsets, schema,
                snapshotter);
            connection.close();
            connection.setAutoCommit(false);
        } catch (SQLException failed) {
            throw new DebeziumException("MySQL does not answer: " + failed.getMessage(), failed);
        }
    }

    /** Start to read, from the snapshot or from the position that was read to. */
    private ChangeEventSourceCoordinator<MySqlPartition, MySqlOffsetContext> streaming(
            Configuration settings,
            MainConnectionProvidingConnectionFactory<BinlogConnectorConnection> connections,
            Offsets<MySqlPartition, MySqlOffsetContext> offsets,
            TopicNamingStrategy<TableId> topics, Charsets charsets) {
        queue = queue();
        errors = new MySqlErrorHandler(config, queue, errors);
        var positions = new Positions();
        var signals = new SignalProcessor<MySqlPartition, MySqlOffsetContext>(
            MysqlConnector.class, config, Map.of(), getAvailableSignalChannels(),
            DocumentReader.defaultReader(), offsets);
        SchemaNameAdjuster names = config.schemaNameAdjuster();
        var dispatcher = new EventDispatcher<MySqlPartition, TableId>(config, topics, schema, queue,
            config.getTableFilters().dataCollectionFilter(), DataChangeEvent::new, null, positions,
            heartbeat(settings), names, signals, service(DebeziumHeaderProducer.class));
        var client = new BinaryLogClient(config.getHostName(), config.getPort(),
            config.getUserName(), config.getPassword());
        var metrics = new MySqlStreamingChangeEventSourceMetrics(context, queue, positions,
            schema::dataCollectionIds, client);
        SnapshotterService snapshotters = service(SnapshotterService.class);
        var sources = new MysqlSourceFactory(config, connections, errors, dispatcher,
            Clock.system(), schema, context, metrics, queue, snapshotters, client,
            charsets);
        var coordinator = new ChangeEventSourceCoordinator<MySqlPartition, MySqlOffsetContext>(
            offsets, errors, MysqlConnector.class, config, sources,
            new MySqlChangeEventSourceMetricsFactory(metrics), dispatcher, schema, signals,
            new NotificationService<>(getNotificationChannels(), config, SchemaFactory.get(),
                record -> dispatcher.enqueueNotification(schema.located(record))),
            snapshotters);
        coordinator.start(context, queue, positions);
        return coordinator;
    }

    private ChangeEventQueue<DataChangeEvent> queue() {
        var providers = service(QueueProviderService.class);
        return new ChangeEventQueue.Builder<DataChangeEvent>()
            .pollInterval(config.getPollInterval())
            .maxBatchSize(config.getMaxBatchSize())
            .maxQueueSize(config.getMaxQueueSize())
            .maxQueueSizeInBytes(config.getMaxQueueSizeInBytes())
            .queueProvider(providers.getQueueProvider())
            .loggingContextSupplier(() -> context.configureLoggingContext("mysql"))
            .buffering()
            .build();
    }

    private Heartbeat.ScheduledHeartbeat heartbeat(Configuration settings) {
        return new HeartbeatFactory<>().getScheduledHeartbeat(config, () -> connected(settings),
            new BinlogHeartbeatErrorHandler(), queue);
    }

    private <S extends Service> S service(Class<S> kind) {
        return config.getServiceRegistry().tryGetService(kind);
    }

    @Override
    public List<SourceRecord> doPoll() throws InterruptedException {
        return pollRecords(queue);
    }

    @Override
    protected Optional<ErrorHandler> getErrorHandler() {
        return Optional.ofNullable(errors);
    }

    @Override
    protected void doStop() {
        Members.forget(server);
        if (queue != null) {
            queue.close();
        }
        while (!open.isEmpty()) {
            try {
                open.pop().close();
            } catch (Exception failed) {
                LOG.warn("A part of the task could not be closed.", failed);
            }
        }
    }

    private <C extends AutoCloseable> C opened(C part) {
        open.push(part);
        return part;
    }
}
