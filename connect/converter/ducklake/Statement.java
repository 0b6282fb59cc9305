package ducklake;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * A statement out of the binlog, in words: as much of SQL as is needed to tell what it concerns, for
 * statements that a parser does not understand as well.
 */
final class Statement {
    private static final int SHOWN = 300;
    private static final Set<String> ROW_CHANGES = Set.of(
        "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH", "CALL", "SELECT", "DO");
    private static final Set<String> NO_COLUMN = Set.of("INDEX", "KEY", "CONSTRAINT", "PRIMARY",
        "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK", "PARTITION");

    /** What a token is: a word, a quoted name, a text, or a single other character. */
    enum Kind { WORD, NAME, TEXT, SIGN }

    /** A token, and the place of its first character. */
    record Token(Kind kind, String text, int at) {
        boolean is(String word) {
            return kind == Kind.WORD && text.equalsIgnoreCase(word);
        }

        boolean sign(char sign) {
            return kind == Kind.SIGN && text.charAt(0) == sign;
        }

        boolean names() {
            return kind == Kind.WORD || kind == Kind.NAME;
        }
    }

    /** A table as a statement names it; without a database where it names none. */
    record Named(String database, String table) {
    }

    private final List<Token> tokens;

    private Statement(List<Token> tokens) {
        this.tokens = tokens;
    }

    static Statement of(String sql, boolean ansiQuotes) {
        return new Statement(tokens(sql, ansiQuotes));
    }

    /** Whether it may define, rename or empty a table; temporary tables are nobody's business. */
    boolean definesTables() {
        return switch (word(0)) {
            case "ALTER" -> isAny(1, "TABLE", "DATABASE", "SCHEMA");
            case "CREATE" -> isAny(1, "TABLE", "INDEX", "DATABASE", "SCHEMA")
                || isAny(1, "UNIQUE", "FULLTEXT", "SPATIAL") && isAny(2, "INDEX");
            case "DROP" -> isAny(1, "TABLE", "TABLES", "INDEX", "DATABASE", "SCHEMA");
            case "RENAME" -> isAny(1, "TABLE", "TABLES");
            case "SET" -> !isAny(1, "PASSWORD", "ROLE", "DEFAULT", "RESOURCE");
            case "TRUNCATE", "USE" -> true;
            default -> false;
        };
    }

    /** Whether it changes rows, which the binlog then holds as this statement only. */
    boolean changesRows() {
        return ROW_CHANGES.contains(word(0));
    }

    boolean startsWith(String... words) {
        for (int i = 0; i < words.length; i++) {
            if (!word(i).equals(words[i])) {
                return false;
            }
        }
        return true;
    }

    /** Whether these words follow one another somewhere. */
    boolean has(String first, String second) {
        for (int i = 0; i + 1 < tokens.size(); i++) {
            if (tokens.get(i).is(first) && tokens.get(i + 1).is(second)) {
                return true;
            }
        }
        return false;
    }

    /** Whether it defines a generated column, whose values no event tells of the rows there are. */
    boolean generates() {
        for (int i = 0; i + 1 < tokens.size(); i++) {
            if (tokens.get(i).is("AS") && tokens.get(i + 1).sign('(')) {
                return true;
            }
        }
        return false;
    }

    /** Whether it gives a column another name. */
    boolean renamesColumn() {
        for (int i = 0; i + 2 < tokens.size(); i++) {
            if (tokens.get(i).is("RENAME") && tokens.get(i + 1).is("COLUMN")) {
                return true;
            }
            if (tokens.get(i).is("CHANGE")) {
                int old = tokens.get(i + 1).is("COLUMN") ? i + 2 : i + 1;
                if (old + 1 < tokens.size()
                        && !tokens.get(old).text().equals(tokens.get(old + 1).text())) {
                    return true;
                }
            }
        }
        return false;
    }

    /** The names that an ALTER TABLE gives to columns: added ones, and those with another name. */
    List<Token> newColumns() {
        List<Token> found = new ArrayList<>();
        if (altered() == null) {
            return found;
        }
        for (int i = 0; i + 1 < tokens.size(); i++) {
            int at = i + 1 + (isAny(i + 1, "COLUMN") ? 1 : 0);
            if (tokens.get(i).is("CHANGE")) {
                addNew(found, at, at + 1);
            } else if (tokens.get(i).is("RENAME") && at == i + 2) {
                addNew(found, at, at + 2);
            } else if (tokens.get(i).is("ADD") && at < tokens.size() && tokens.get(at).sign('(')) {
                int depth = 0;
                for (int j = at; j + 1 < tokens.size() && !(tokens.get(j).sign(')') && depth == 1);
                        j++) {
                    depth += tokens.get(j).sign('(') ? 1 : tokens.get(j).sign(')') ? -1 : 0;
                    if (depth == 1 && (j == at || tokens.get(j).sign(','))) {
                        addNew(found, -1, j + 1);
                    }
                }
            } else if (tokens.get(i).is("ADD")) {
                addNew(found, -1, at);
            }
        }
        return found;
    }

    private void addNew(List<Token> found, int old, int at) {
        boolean same = old >= 0 && at < tokens.size()
            && tokens.get(old).text().equalsIgnoreCase(tokens.get(at).text());
        if (at < tokens.size() && tokens.get(at).names() && !same && !NO_COLUMN.contains(word(at))) {
            found.add(tokens.get(at));
        }
    }

    /** The names of columns after which others are to stand. */
    List<Token> precedingColumns() {
        return IntStream.range(1, tokens.size())
            .filter(i -> tokens.get(i - 1).is("AFTER") && tokens.get(i).names())
            .mapToObj(tokens::get).toList();
    }

    /** Whether it drops a column of this name, in order to add another one. */
    boolean dropsColumn(String name) {
        for (int i = 0; i + 1 < tokens.size(); i++) {
            int at = i + 1 + (tokens.get(i + 1).is("COLUMN") ? 1 : 0);
            if (tokens.get(i).is("DROP") && at < tokens.size() && tokens.get(at).names()
                    && tokens.get(at).text().equalsIgnoreCase(name)) {
                return true;
            }
        }
        return false;
    }

    /** Whether it writes all texts of a table in a character set that may lack some of them. */
    boolean convertsText() {
        return has("CONVERT", "TO") && tokens.stream().noneMatch(token ->
            token.kind() != Kind.SIGN && token.text().equalsIgnoreCase("utf8mb4"));
    }

    /** Whether it gives something a default other than NULL. */
    boolean hasDefault() {
        for (int i = 0; i + 1 < tokens.size(); i++) {
            if (tokens.get(i).is("DEFAULT")
                    && !isAny(i + 1, "NULL", "CHARACTER", "CHARSET", "COLLATE")) {
                return true;
            }
        }
        return false;
    }

    boolean hasWord(String word) {
        return tokens.stream().anyMatch(token -> token.is(word));
    }

    /** Everything in it that could be a table's name; more than are. */
    Set<Named> names() {
        Set<Named> found = new LinkedHashSet<>();
        for (int i = 0; i < tokens.size(); i++) {
            Token token = tokens.get(i);
            if (token.kind() == Kind.SIGN) {
                continue;
            }
            boolean qualified = i >= 2 && tokens.get(i - 1).sign('.');
            found.add(new Named(qualified ? tokens.get(i - 2).text() : null, token.text()));
        }
        return found;
    }

    /** The tables that a DROP TABLE drops. */
    List<Named> dropped() {
        int at = 2;
        if (isAny(at, "IF")) {
            at += 2;
        }
        return startsWith("DROP", "TABLE") || startsWith("DROP", "TABLES") ? tablesFrom(at)
            : List.of();
    }

    /** The table that an ALTER TABLE alters; null for other statements. */
    Named altered() {
        if (!startsWith("ALTER", "TABLE")) {
            return null;
        }
        List<Named> found = tablesFrom(2);
        return found.isEmpty() ? null : found.get(0);
    }

    /** The database that a DROP DATABASE drops; null for other statements. */
    String droppedDatabase() {
        if (!startsWith("DROP", "DATABASE") && !startsWith("DROP", "SCHEMA")) {
            return null;
        }
        int at = isAny(2, "IF") ? 4 : 2;
        return at < tokens.size() ? tokens.get(at).text() : null;
    }

    /** Old and new name of each table that is renamed, in order. */
    List<Named[]> renamed() {
        List<Named[]> found = new ArrayList<>();
        if (startsWith("RENAME", "TABLE") || startsWith("RENAME", "TABLES")) {
            int[] at = {2};
            while (at[0] < tokens.size()) {
                Named from = tableAt(at);
                at[0]++; // TO
                Named to = at[0] < tokens.size() ? tableAt(at) : null;
                if (from == null || to == null) {
                    break;
                }
                found.add(new Named[] {from, to});
                at[0]++; // the comma
            }
            return found;
        }
        Named from = altered();
        for (int i = 3; from != null && i + 1 < tokens.size(); i++) {
            if (tokens.get(i).is("RENAME") && !isAny(i + 1, "COLUMN", "INDEX", "KEY")) {
                int[] at = {isAny(i + 1, "TO", "AS") || tokens.get(i + 1).sign('=')
                    ? i + 2 : i + 1};
                Named to = tableAt(at);
                if (to != null) {
                    found.add(new Named[] {from, to});
                }
            }
        }
        return found;
    }

    /** The statement on one line, its texts left out: they may be secrets, or rows. */
    String shown() {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < tokens.size() && line.length() < SHOWN; i++) {
            Token token = tokens.get(i);
            boolean tight = token.sign('.') || token.sign(',') || token.sign(')') || token.sign('(')
                || i > 0 && (tokens.get(i - 1).sign('.') || tokens.get(i - 1).sign('('));
            line.append(i == 0 || tight ? "" : " ");
            line.append(switch (token.kind()) {
                case TEXT -> "'…'";
                case NAME -> "`" + token.text() + "`";
                default -> token.text();
            });
        }
        return line.length() > SHOWN ? line.substring(0, SHOWN) + "…" : line.toString();
    }

    /** Its first words, for a statement that is none of ours. */
    String beginning() {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < Math.min(tokens.size(), 5) && tokens.get(i).kind() != Kind.TEXT; i++) {
            line.append(i == 0 || tokens.get(i).sign('.') ? "" : " ").append(tokens.get(i).text());
        }
        return line.toString();
    }

    private List<Named> tablesFrom(int start) {
        List<Named> found = new ArrayList<>();
        int[] at = {start};
        do {
            Named table = tableAt(at);
            if (table == null) {
                break;
            }
            found.add(table);
        } while (at[0] < tokens.size() && tokens.get(at[0]++).sign(','));
        return found;
    }

    private Named tableAt(int[] at) {
        if (at[0] >= tokens.size() || !tokens.get(at[0]).names()) {
            return null;
        }
        String name = tokens.get(at[0]++).text();
        if (at[0] + 1 < tokens.size() && tokens.get(at[0]).sign('.')) {
            at[0]++;
            return new Named(name, tokens.get(at[0]++).text());
        }
        return new Named(null, name);
    }

    private String word(int i) {
        return i < tokens.size() && tokens.get(i).kind() == Kind.WORD
            ? tokens.get(i).text().toUpperCase(Locale.ROOT) : "";
    }

    private boolean isAny(int i, String... words) {
        return List.of(words).contains(word(i));
    }

    private static List<Token> tokens(String sql, boolean ansiQuotes) {
        List<Token> found = new ArrayList<>();
        int i = 0;
        while (i < sql.length()) {
            char c = sql.charAt(i);
            if (Character.isWhitespace(c)) {
                i++;
            } else if (c == '#' || sql.startsWith("--", i) && isBlankAt(sql, i + 2)) {
                int end = sql.indexOf('\n', i);
                i = end < 0 ? sql.length() : end + 1;
            } else if (sql.startsWith("/*!", i)) {
                i += 3; // MySQL reads what such a comment holds
                while (i < sql.length() && Character.isDigit(sql.charAt(i))) {
                    i++;
                }
            } else if (sql.startsWith("/*", i)) {
                int end = sql.indexOf("*/", i + 2);
                i = end < 0 ? sql.length() : end + 2;
            } else if (sql.startsWith("*/", i)) {
                i += 2;
            } else if (c == '`' || c == '\'' || c == '"') {
                StringBuilder text = new StringBuilder();
                int start = i;
                i = quoted(sql, i, text);
                boolean name = c == '`' || c == '"' && ansiQuotes;
                found.add(new Token(name ? Kind.NAME : Kind.TEXT, text.toString(), start));
            } else if (isWord(c)) {
                int end = i;
                while (end < sql.length() && isWord(sql.charAt(end))) {
                    end++;
                }
                found.add(new Token(Kind.WORD, sql.substring(i, end), i));
                i = end;
            } else {
                found.add(new Token(Kind.SIGN, String.valueOf(c), i));
                i++;
            }
        }
        return found;
    }

    private static int quoted(String sql, int start, StringBuilder text) {
        char quote = sql.charAt(start);
        int i = start + 1;
        while (i < sql.length()) {
            char c = sql.charAt(i);
            if (c == quote) {
                if (i + 1 >= sql.length() || sql.charAt(i + 1) != quote) {
                    return i + 1;
                }
                i++; // a doubled quote stands for itself
            } else if (c == '\\' && quote != '`' && i + 1 < sql.length()) {
                i++;
            }
            text.append(sql.charAt(i));
            i++;
        }
        return i;
    }

    private static boolean isWord(char c) {
        return Character.isLetterOrDigit(c) || c == '_' || c == '$' || c >= 0x80;
    }

    private static boolean isBlankAt(String sql, int i) {
        return i >= sql.length() || Character.isWhitespace(sql.charAt(i));
    }
}
