package ducklake;

import io.debezium.antlr.mysql.SqlModes;
import io.debezium.connector.binlog.charset.BinlogCharsetRegistry;
import io.debezium.connector.binlog.jdbc.BinlogSystemVariables.BinlogScope;
import io.debezium.connector.mysql.antlr.MySqlAntlrDdlParser;
import io.debezium.ddl.parser.mysql.generated.MySqlLexer;
import io.debezium.ddl.parser.mysql.generated.MySqlParser;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import io.debezium.relational.Tables;
import io.debezium.relational.Tables.TableFilter;
import io.debezium.relational.ddl.DdlChanges;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.antlr.v4.runtime.BaseErrorListener;
import org.antlr.v4.runtime.CharStream;
import org.antlr.v4.runtime.CommonTokenStream;
import org.antlr.v4.runtime.RecognitionException;
import org.antlr.v4.runtime.Recognizer;
import org.antlr.v4.runtime.Token;
import org.antlr.v4.runtime.WritableToken;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Debezium's parser of definitions, without its way of ending everything: a statement that cannot
 * define a table is not read; words that it takes for keywords of a later MySQL are tried as names;
 * what it still does not understand changes nothing and is remembered as failed.
 */
final class TolerantDdlParser extends MySqlAntlrDdlParser {
    private static final Logger LOGGER = LoggerFactory.getLogger(TolerantDdlParser.class);
    private static final int MOST_NAMES = 40;
    private static final String SQL_MODE = "sql_mode";
    /** Quoted parts, which stay as they are, or a type of text in bytes. */
    private static final Pattern BYTES = Pattern.compile(
        "'(?:[^'\\\\]|\\\\.|'')*+'|\"(?:[^\"\\\\]|\\\\.|\"\")*+\"|`(?:[^`]|``)*+`"
        + "|(\\b(?:CHAR|CHARACTER|VARCHAR|VARCHARACTER|TINYTEXT|TEXT|MEDIUMTEXT|LONGTEXT|LONG)\\b"
        + "(?:\\s+VARYING|\\s+VARCHAR)?\\s*(?:\\(\\s*\\d+\\s*\\))?\\s+)BYTE\\b",
        Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    private final TableFilter captured;
    private final Set<Integer> names = new HashSet<>();
    private final Map<TableId, Suspect> suspects = new LinkedHashMap<>();
    private Token offending;
    private Token before;
    private TakenNames taken;
    private Statement failed;

    TolerantDdlParser(boolean includeComments, TableFilter filter, BinlogCharsetRegistry charsets) {
        super(true, false, includeComments, filter, charsets);
        captured = filter;
    }

    /** A followed table's definition when a statement that names it was not understood. */
    record Suspect(Table definition, String statement) {
    }

    /** The statement that the last call did not understand; null if it did. */
    Statement failed() {
        return failed;
    }

    /** Followed tables that statements named which were not understood, since this was asked. */
    Map<TableId, Suspect> takeSuspects() {
        Map<TableId, Suspect> taken = Map.copyOf(suspects);
        suspects.clear();
        return taken;
    }

    /** The session's mode decides what double quotes and backslashes mean. */
    void use(String sqlMode) {
        systemVariables().setVariable(BinlogScope.SESSION, SQL_MODE, sqlMode);
    }

    boolean ansiQuotes() {
        return sqlMode().contains("ANSI");
    }

    @Override
    public DdlChanges parse(String original, Tables tables) {
        String ddl = inBytes(original);
        failed = null;
        Statement statement = Statement.of(ddl, ansiQuotes());
        if (!statement.definesTables()) {
            return getAndResetDdlChanges();
        }
        Tables intact = tables.clone();
        names.clear();
        taken = new TakenNames(statement, ddl, altered(statement, tables));
        while (true) {
            offending = null;
            before = null;
            try {
                DdlChanges changes = super.parse(ddl, tables);
                taken.give(tables);
                return changes;
            } catch (RuntimeException error) {
                getAndResetDdlChanges();
                restore(tables, intact);
                if (names.size() >= MOST_NAMES || !takeAsName(offending) && !takeAsName(before)) {
                    LOGGER.warn("A statement is not understood: {}", error.getMessage());
                    suspect(statement, tables);
                    return getAndResetDdlChanges();
                }
            }
        }
    }

    /** CHAR(n) BYTE by its other name: Debezium reads it as text. */
    private static String inBytes(String ddl) {
        return BYTES.matcher(ddl).replaceAll(found -> Matcher.quoteReplacement(
            found.group(1) == null ? found.group() : found.group(1) + "CHARACTER SET binary"));
    }

    @Override
    protected MySqlLexer createNewLexerInstance(CharStream characters) {
        MySqlLexer lexer = new MySqlLexer(characters) {
            @Override
            public Token nextToken() {
                Token token = super.nextToken();
                String temporary = taken.at(token.getStartIndex());
                if (temporary != null && token instanceof WritableToken word) {
                    word.setText(temporary);
                    word.setType(MySqlLexer.IDENTIFIER);
                } else if (names.contains(token.getStartIndex())
                        && token instanceof WritableToken word) {
                    word.setType(MySqlLexer.IDENTIFIER);
                }
                return token;
            }
        };
        lexer.sqlModes = SqlModes.sqlModeFromString(sqlMode() + ",ANSI_QUOTES");
        return lexer;
    }

    @Override
    protected MySqlParser createNewParserInstance(CommonTokenStream tokens) {
        MySqlParser parser = super.createNewParserInstance(tokens);
        parser.addErrorListener(new BaseErrorListener() {
            @Override
            public void syntaxError(Recognizer<?, ?> recognizer, Object symbol, int line,
                    int column, String message, RecognitionException error) {
                if (offending == null && symbol instanceof Token token) {
                    offending = token;
                    int at = token.getTokenIndex() - 1;
                    while (at >= 0 && tokens.get(at).getChannel() != Token.DEFAULT_CHANNEL) {
                        at--;
                    }
                    before = at >= 0 ? tokens.get(at) : null;
                }
            }
        });
        return parser;
    }

    private Table altered(Statement statement, Tables tables) {
        Statement.Named named = statement.altered();
        if (named == null) {
            return null;
        }
        String database = named.database() == null ? currentSchema() : named.database();
        return tables.forTable(new TableId(database, null, named.table()));
    }

    private void suspect(Statement statement, Tables tables) {
        failed = statement;
        for (Statement.Named named : statement.names()) {
            String database = named.database() == null ? currentSchema() : named.database();
            TableId id = new TableId(database, null, named.table());
            if (captured.isIncluded(id)) {
                suspects.put(id, new Suspect(tables.forTable(id), statement.shown()));
            }
        }
    }

    private String sqlMode() {
        return Objects.requireNonNullElse(systemVariables().getVariable(SQL_MODE), "");
    }

    /** Whether a keyword is there that was not yet tried as a name. */
    private boolean takeAsName(Token token) {
        if (token == null || token.getType() <= 0 || token.getType() == MySqlLexer.IDENTIFIER
                || token.getText() == null || !token.getText().matches("[A-Za-z_][A-Za-z_0-9]*")) {
            return false;
        }
        return names.add(token.getStartIndex());
    }

    private static void restore(Tables tables, Tables intact) {
        for (TableId id : Set.copyOf(tables.tableIds())) {
            if (intact.forTable(id) == null) {
                tables.removeTable(id);
            }
        }
        for (TableId id : intact.tableIds()) {
            Table table = intact.forTable(id);
            if (table != tables.forTable(id)) {
                tables.overwriteTable(table);
            }
        }
    }
}
