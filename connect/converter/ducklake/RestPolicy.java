package ducklake;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import jakarta.ws.rs.container.ContainerRequestContext;
import jakarta.ws.rs.container.ContainerRequestFilter;
import jakarta.ws.rs.core.MediaType;
import jakarta.ws.rs.core.Response;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.connect.rest.ConnectRestExtension;
import org.apache.kafka.connect.rest.ConnectRestExtensionContext;

/**
 * Refuses what a connector's configuration must not hold, before Connect resolves or validates it.
 *
 * <p>Connect's own validation answers with the value that it refuses, which may be the one that a
 * reference stands for, and a JDBC driver reads files if its properties say so.
 */
public class RestPolicy implements ConnectRestExtension, ContainerRequestFilter {
    private static final int AFTER_LOGIN = 2000;
    private static final int REFUSED = 400;
    private static final ObjectMapper JSON = new ObjectMapper();

    private SettingsPolicy policy = new SettingsPolicy("");

    @Override
    public void configure(Map<String, ?> worker) {
        policy = new SettingsPolicy(String.valueOf(worker.get("bootstrap.servers")));
    }

    @Override
    public void register(ConnectRestExtensionContext context) {
        context.configurable().register(this, AFTER_LOGIN);
    }

    @Override
    public void filter(ContainerRequestContext request) throws IOException {
        if (!request.hasEntity()) {
            return;
        }
        byte[] body = request.getEntityStream().readAllBytes();
        request.setEntityStream(new ByteArrayInputStream(body));
        JsonNode read;
        try {
            read = JSON.readTree(body);
        } catch (IOException notJson) {
            return; // Connect itself refuses that
        }
        Optional<String> problem = problem(read);
        if (problem.isEmpty() && read.path("config").isObject()) {
            problem = problem(read.path("config"));
        }
        if (problem.isPresent()) {
            String said = JSON.createObjectNode()
                    .put("error_code", REFUSED)
                    .put("message", "Refused by the policy of this Connect: " + problem.get())
                    .toString();
            request.abortWith(
                    Response.status(REFUSED).type(MediaType.APPLICATION_JSON).entity(said).build());
        }
    }

    private Optional<String> problem(JsonNode settings) {
        for (Iterator<Map.Entry<String, JsonNode>> each = settings.fields(); each.hasNext(); ) {
            Map.Entry<String, JsonNode> setting = each.next();
            if (!setting.getValue().isValueNode() || setting.getValue().isNull()) {
                continue;
            }
            Optional<String> found =
                    policy.problem(setting.getKey().strip(), setting.getValue().asText());
            if (found.isPresent()) {
                return found;
            }
        }
        return Optional.empty();
    }

    @Override
    public void close() {}

    @Override
    public String version() {
        return "1";
    }
}
