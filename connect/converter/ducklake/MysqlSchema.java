package ducklake;

import io.debezium.connector.binlog.BinlogConnectorConfig;
import io.debezium.connector.binlog.charset.BinlogCharsetRegistry;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlDatabaseSchema;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlTaskContext;
import io.debezium.connector.mysql.jdbc.MySqlValueConverters;
import io.debezium.pipeline.spi.Offsets;
import io.debezium.relational.CustomConverterRegistry;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import io.debezium.relational.Tables;
import io.debezium.relational.ddl.DdlParser;
import io.debezium.schema.SchemaNameAdjuster;
import io.debezium.spi.topic.TopicNamingStrategy;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

/** Debezium's tables, with a parser that no statement ends. */
final class MysqlSchema extends MySqlDatabaseSchema {
    private static final String ADDITIONAL = "additional_data";

    private final BinlogConnectorConfig config;
    private final Map<TableId, TolerantDdlParser.Suspect> recovered = new LinkedHashMap<>();
    private volatile MySqlOffsetContext followed;

    MysqlSchema(MySqlConnectorConfig config, MySqlValueConverters values,
            TopicNamingStrategy<TableId> topics, SchemaNameAdjuster names, boolean caseInsensitive,
            CustomConverterRegistry converters, MySqlTaskContext context) {
        super(config, values, topics, names, caseInsensitive, converters, context);
        this.config = config;
    }

    @Override
    protected DdlParser createDdlParser(BinlogConnectorConfig config, MySqlValueConverters values) {
        return new TolerantDdlParser(config.isSchemaCommentsHistoryEnabled(), getTableFilter(),
            config.getServiceRegistry().getService(BinlogCharsetRegistry.class));
    }

    @Override
    public void recover(Offsets<?, ?> offsets) throws InterruptedException {
        super.recover(offsets);
        parser().takeSuspects().forEach((id, suspect) -> {
            // unless something later has defined it
            if (suspect.definition() == tables().forTable(id)) {
                recovered.put(id, suspect);
            }
        });
    }

    /** Tables whose definition has been in doubt since before this start. */
    Map<TableId, TolerantDdlParser.Suspect> recovered() {
        return recovered;
    }

    /** Where the reader of the binlog keeps how far it is. */
    void follow(MySqlOffsetContext offset) {
        followed = offset;
    }

    /** A notification with the place in the binlog at which it was sent. */
    SourceRecord located(SourceRecord notification) {
        MySqlOffsetContext offset = followed;
        if (offset != null && notification.value() instanceof Struct value
                && value.schema().field(ADDITIONAL) != null) {
            Map<String, String> more = new LinkedHashMap<>();
            Map<String, String> known = value.getMap(ADDITIONAL);
            if (known != null) {
                more.putAll(known);
            }
            more.put("file", offset.getSource().binlogFilename());
            more.put("pos", String.valueOf(offset.getSource().binlogPosition()));
            value.put(ADDITIONAL, more);
        }
        return notification;
    }

    TolerantDdlParser parser() {
        return (TolerantDdlParser) getDdlParser();
    }

    boolean captures(TableId id) {
        return config.getTableFilters().dataCollectionFilter().isIncluded(id);
    }

    /** Whether there is such a table, followed or not. */
    boolean isKnown(TableId id) {
        return tables().forTable(id) != null;
    }

    /** What a CREATE TABLE of a database defines; null where it is not understood. */
    Table defined(TableId id, String createTable) {
        TolerantDdlParser reader =
            (TolerantDdlParser) createDdlParser(config, null);
        reader.setCurrentSchema(id.catalog());
        Tables found = new Tables();
        reader.parse(createTable, found);
        return found.forTable(id);
    }

    /** Have a definition that was read, rather than followed. */
    void adopt(Table table) {
        tables().overwriteTable(table);
        buildAndRegisterSchema(table);
    }
}
