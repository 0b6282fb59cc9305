package ducklake;

import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.jdbc.MySqlValueConverters;
import io.debezium.relational.Column;
import java.nio.charset.Charset;

/** Debezium's values, with the text of the binlog read as the server reads it. */
final class MysqlText extends MySqlValueConverters {
    private final Charsets charsets;

    MysqlText(MySqlConnectorConfig config, Charsets charsets) {
        super(config.getDecimalMode(), config.getTemporalPrecisionMode(),
            config.getBigIntUnsignedHandlingMode().asBigIntUnsignedMode(),
            config.binaryHandlingMode(),
            config.isTimeAdjustedEnabled() ? MySqlValueConverters::adjustTemporal : time -> time,
            config.getEventConvertingFailureHandlingMode(), config.getServiceRegistry());
        this.charsets = charsets;
    }

    @Override
    protected Charset charsetFor(Column column) {
        String name = column.charsetName();
        return name == null ? super.charsetFor(column) : charsets.named(name);
    }
}
