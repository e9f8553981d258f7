import java.util.HashMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs statements of Flink SQL as batch jobs on a cluster within this process.
 *
 * <p>{@code FlinkSql STATEMENTS [KEY=VALUE...]}: each statement ends with its line; the rest is configuration.
 */
public class FlinkSql {
    public static void main(String[] arguments) throws Exception {
        var options = new HashMap<String, String>();
        for (int at = 1; at < arguments.length; at++) {
            var option = arguments[at].split("=", 2);
            options.put(option[0], option[1]);
        }
        var configuration = Configuration.fromMap(options);
        var settings = EnvironmentSettings.newInstance().inBatchMode().withConfiguration(configuration).build();
        var flink = TableEnvironment.create(settings);
        for (var statement : arguments[0].strip().split(";\\s*(\n|$)")) {
            flink.executeSql(statement).await();
        }
    }
}
