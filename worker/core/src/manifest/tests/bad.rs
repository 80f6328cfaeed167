[
    (
        "  sources:",
        "  sorces:",
        r#"
job.yaml:5:3: spec.sorces: unknown field `sorces`
  |   sorces:
  |   ^^^^^^
  hint: did you mean `sources`?

1 problem
"#,
    ),
    (
        "groupBy: [user]",
        "groupby: [user]",
        r#"
job.yaml:15:7: spec.steps[0].groupby: unknown field `groupby`
  |       groupby: [user]
  |       ^^^^^^^
  hint: did you mean `groupBy`?

1 problem
"#,
    ),
    (
        "from: clicks",
        "form: clicks",
        r#"
job.yaml:14:7: spec.steps[0].form: unknown field `form`
  |       form: clicks
  |       ^^^^
  hint: did you mean `from`?

1 problem
"#,
    ),
    (
        "window: {tumbling: {size: 1m}}",
        "window: {size: 1m}",
        r#"
job.yaml:16:16: spec.steps[0].window.size: unknown field `size`
  |       window: {size: 1m}
  |                ^^^^
  hint: `size` belongs under `cumulating`, `sliding` or `tumbling`

1 problem
"#,
    ),
    (
        "stdout: {}",
        "stdout: {}, overwrite: true",
        r#"
job.yaml:19:47: spec.sinks[0].overwrite: unknown field `overwrite`
  |     - {name: out, from: per_user, stdout: {}, overwrite: true}
  |                                               ^^^^^^^^^
  hint: `overwrite` belongs under `file`

1 problem
"#,
    ),
    (
        "stdout: {}",
        "stdout: {color: true}",
        r#"
job.yaml:19:44: spec.sinks[0].stdout.color: unknown field `color`
  |     - {name: out, from: per_user, stdout: {color: true}}
  |                                            ^^^^^
  hint: it takes no fields: write `{}`

1 problem
"#,
    ),
    (
        "type: String",
        "type: string",
        r#"
job.yaml:9:30: spec.sources[0].columns[0].type: unknown value `string`
  |         - {name: user, type: string}
  |                              ^^^^^^
  hint: did you mean `String`?

1 problem
"#,
    ),
    (
        "type: String",
        "type: Text",
        r#"
job.yaml:9:30: spec.sources[0].columns[0].type: unknown value `Text`
  |         - {name: user, type: Text}
  |                              ^^^^
  hint: one of `String`, `Boolean`, `Int64`, `Double`, `Decimal`, `Timestamp` or `Bytes`

1 problem
"#,
    ),
    (
        "size: 1m",
        "size: 60",
        r#"
job.yaml:16:33: spec.steps[0].window.tumbling.size: expected a duration such as `10s`, found the number 60
  |       window: {tumbling: {size: 60}}
  |                                 ^^
  hint: write the unit: `60s` or `60ms`

1 problem
"#,
    ),
    (
        "size: 1m",
        "size: 1 minute",
        r#"
job.yaml:16:33: spec.steps[0].window.tumbling.size: `1 minute` is not a duration: write for example `10s`, `250ms` or `1h30m`
  |       window: {tumbling: {size: 1 minute}}
  |                                 ^^^^^^^^
  hint: write `1m`

1 problem
"#,
    ),
    (
        "size: 1m",
        "size: 7d",
        r#"
job.yaml:16:33: spec.steps[0].window.tumbling.size: `7d` is not a duration: write for example `10s`, `250ms` or `1h30m`
  |       window: {tumbling: {size: 7d}}
  |                                 ^^
  hint: write `168h`

1 problem
"#,
    ),
    (
        "size: 1m",
        "",
        r#"
job.yaml:16:16: spec.steps[0].window.tumbling.size: required field is missing
  |       window: {tumbling: {}}
  |                ^^^^^^^^
  hint: `size`: length of a window

1 problem
"#,
    ),
    (
        "groupBy: [user]",
        "groupBy: user",
        r#"
job.yaml:15:16: spec.steps[0].groupBy: expected a list, found the string `user`
  |       groupBy: user
  |                ^^^^
  hint: write a list: `[user]`

1 problem
"#,
    ),
    (
        "groupBy: [user]",
        "groupBy:",
        r#"
job.yaml:15:7: spec.steps[0].groupBy: expected a list, found nothing
  |       groupBy:
  |       ^^^^^^^
  hint: give it a value, or leave it out

1 problem
"#,
    ),
    (
        "stdout: {}",
        "stdout:",
        r#"
job.yaml:19:35: spec.sinks[0].stdout: expected an object, found nothing
  |     - {name: out, from: per_user, stdout:}
  |                                   ^^^^^^
  hint: write `stdout: {}`, or leave the field out

1 problem
"#,
    ),
    (
        "groupBy: [user]",
        "groupBy: [user, 5]",
        r#"
job.yaml:15:23: spec.steps[0].groupBy[1]: expected a string, found the number 5
  |       groupBy: [user, 5]
  |                       ^
  hint: put it in quotes: `"5"`

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  replicas: two",
        r#"
job.yaml:5:13: spec.replicas: expected an integer, found the string `two`
  |   replicas: two
  |             ^^^

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  replicas: 2.0",
        r#"
job.yaml:5:13: spec.replicas: expected an integer, found the number 2.0
  |   replicas: 2.0
  |             ^^^
  hint: write `2`

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  replicas: 5000",
        r#"
job.yaml:5:13: spec.replicas: must be between 0 and 1024, found 5000
  |   replicas: 5000
  |             ^^^^

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  maxParallelism: 0",
        r#"
job.yaml:5:19: spec.maxParallelism: must be between 1 and 1024, found 0
  |   maxParallelism: 0
  |                   ^

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  suspend: yes",
        r#"
job.yaml:5:12: spec.suspend: expected `true` or `false`, found the string `yes`
  |   suspend: yes
  |            ^^^
  hint: write `true`

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  guarantee: exactly_once",
        r#"
job.yaml:5:14: spec.guarantee: unknown value `exactly_once`
  |   guarantee: exactly_once
  |              ^^^^^^^^^^^^
  hint: did you mean `ExactlyOnce`?

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  guarantee: Sometimes",
        r#"
job.yaml:5:14: spec.guarantee: unknown value `Sometimes`
  |   guarantee: Sometimes
  |              ^^^^^^^^^
  hint: one of `ExactlyOnce` or `AtLeastOnce`

1 problem
"#,
    ),
    (
        "name: per_user",
        "name: per.user",
        r#"
job.yaml:13:13: spec.steps[0].name: `per.user` is not a name: use letters, digits, `_` and `-`, and begin with a letter
  |     - name: per.user
  |             ^^^^^^^^

1 problem
"#,
    ),
    (
        "name: user, type",
        "name: user-id, type",
        r#"
job.yaml:9:18: spec.sources[0].columns[0].name: `user-id` is not a column name: use letters, digits and `_`, and begin with a letter
  |         - {name: user-id, type: String}
  |                  ^^^^^^^
  hint: `path` says where the value is in the event, where that has another name

1 problem
"#,
    ),
    (
        "name: clicks}",
        "name: My_Clicks}",
        r#"
job.yaml:3:18: metadata.name: `My_Clicks` is not a name that Kubernetes takes: use lower-case letters, digits and `-`, the latter not at an end
  | metadata: {name: My_Clicks}
  |                  ^^^^^^^^^

1 problem
"#,
    ),
    (
        "metadata: {name: clicks}",
        "metadata: {namespace: a, label: x, labels: {version: 1}}",
        r#"
job.yaml:3:1: metadata.name: required field is missing
  | metadata: {namespace: a, label: x, labels: {version: 1}}
  | ^^^^^^^^
  hint: `name`: give the job a name: `name: my-job`

job.yaml:3:26: metadata.label: unknown field `label`
  | metadata: {namespace: a, label: x, labels: {version: 1}}
  |                          ^^^^^
  hint: known fields: `annotations`, `labels`, `name` and `namespace`

job.yaml:3:54: metadata.labels.version: expected a string, found the number 1
  | metadata: {namespace: a, label: x, labels: {version: 1}}
  |                                                      ^
  hint: put it in quotes: `"1"`

3 problems
"#,
    ),
    (
        "metadata: {name: clicks}\n",
        "",
        r#"
job.yaml:1:1: metadata: required field is missing
  | apiVersion: streamjob.dev/v1alpha1
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: `metadata`: give the job a name: `metadata: {name: my-job}`

1 problem
"#,
    ),
    (
        "      columns:\n        - {name: user, type: String}\n        - {name: ts, type: Timestamp}",
        "      columns: []",
        r#"
job.yaml:8:7: spec.sources[0].columns: the list is empty, it needs at least one element
  |       columns: []
  |       ^^^^^^^

1 problem
"#,
    ),
    (
        "file: {path: \"in/*.ndjson\"}",
        "kafka: {connection: main, topic: clicks, startFrom: newest}",
        r#"
job.yaml:7:59: spec.sources[0].kafka.startFrom: `newest` is not a start
  |       kafka: {connection: main, topic: clicks, startFrom: newest}
  |                                                           ^^^^^^
  hint: expected `Earliest`, `Latest` or `{timestamp: <RFC 3339>}`

1 problem
"#,
    ),
    (
        "file: {path: \"in/*.ndjson\"}",
        "kafka: {connection: main, topic: \"\", startFrom: {time: 2026-01-01}}",
        r#"
job.yaml:7:40: spec.sources[0].kafka.topic: must not be empty
  |       kafka: {connection: main, topic: "", startFrom: {time: 2026-01-01}}
  |                                        ^^

job.yaml:7:44: spec.sources[0].kafka.startFrom: unknown field `time`, expected `timestamp`
  |       kafka: {connection: main, topic: "", startFrom: {time: 2026-01-01}}
  |                                            ^^^^^^^^^
  hint: expected `Earliest`, `Latest` or `{timestamp: <RFC 3339>}`

2 problems
"#,
    ),
    (
        "kind: StreamJob",
        "kind: Deployment",
        r#"
job.yaml:2:7: kind: expected `StreamJob`, found `Deployment`
  | kind: Deployment
  |       ^^^^^^^^^^
  hint: write `kind: StreamJob`

1 problem
"#,
    ),
    (
        "kind: StreamJob",
        "kind: StreamJob\nsources: []",
        r#"
job.yaml:3:1: sources: unknown field `sources`
  | sources: []
  | ^^^^^^^
  hint: `sources` belongs under `spec`

1 problem
"#,
    ),
    (
        "v1alpha1",
        "v1",
        r#"
job.yaml:1:13: apiVersion: expected `streamjob.dev/v1alpha1`, found `streamjob.dev/v1`
  | apiVersion: streamjob.dev/v1
  |             ^^^^^^^^^^^^^^^^
  hint: write `apiVersion: streamjob.dev/v1alpha1`

1 problem
"#,
    ),
    (
        "apiVersion: streamjob.dev/v1alpha1\n",
        "",
        r#"
job.yaml:1:1: apiVersion: required field is missing
  | kind: StreamJob
  | ^^^^^^^^^^^^^^^
  hint: write `apiVersion: streamjob.dev/v1alpha1`

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      from: other\n",
        r#"
job.yaml:15:7: spec.steps[0].from: `from` is given twice
  |       from: other
  |       ^^^^
  hint: keep one of them

1 problem
"#,
    ),
    (
        "  steps:\n",
        "  steps:\n   - x: 1\n",
        r#"
job.yaml:14:5: not valid YAML: while parsing a block collection, did not find expected '-' indicator
  |     - name: per_user
  |     ^
  hint: the elements of a list must start in the same column

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: a: b\n",
        r#"
job.yaml:15:15: not valid YAML: mapping values are not allowed in this context
  |       where: a: b
  |               ^
  hint: text that contains `: ` must be in quotes

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: 'x' = user\n",
        r#"
job.yaml:15:18: not valid YAML: invalid trailing content after double-quoted scalar
  |       where: 'x' = user
  |                  ^
  hint: put the whole text in quotes, of the other kind: `"'a' = b"`

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n\t\twhere: x\n",
        r#"
job.yaml:14:13: not valid YAML: while scanning a plain scalar, found a tab
  |       from: clicks
  |             ^
  hint: indent with spaces

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: \"x\n",
        r#"
job.yaml:15:14: not valid YAML: invalid indentation in quoted scalar
  |       where: "x
  |              ^
  hint: is the closing quote missing?

1 problem
"#,
    ),
    (
        "groupBy: [user]",
        "groupBy: [user",
        r#"
job.yaml:17:7: not valid YAML: invalid indentation in flow construct
  |       aggregate: [count(*) AS clicks]
  |       ^
  hint: is a `[`, `{` or quote above not closed?

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: %x\n",
        r#"
job.yaml:15:14: not valid YAML: unexpected character: `%'
  |       where: %x
  |              ^
  hint: text that starts with this character must be in quotes

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: *x\n",
        r#"
job.yaml:15:14: not valid YAML: while parsing node, found unknown anchor
  |       where: *x
  |              ^
  hint: text that starts with `*` must be in quotes

1 problem
"#,
    ),
    (
        "file: {path: \"in/*.ndjson\"}",
        "file: &f {path: \"in/*.ndjson\"}",
        r#"
job.yaml:7:16: spec.sources[0].file: anchors (`&name`) are not supported
  |       file: &f {path: "in/*.ndjson"}
  |                ^
  hint: write the value out where it is used

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      where: !sql x\n",
        r#"
job.yaml:15:19: spec.steps[0].where: tags (`!name`) are not supported
  |       where: !sql x
  |                   ^
  hint: text that starts with `!` must be in quotes

1 problem
"#,
    ),
    (
        "stdout: {}}",
        "stdout: {}}\n---\nkind: Other",
        r#"
job.yaml:21:1: a second document starts here
  | kind: Other
  | ^
  hint: one job a file: put the other into a file of its own

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      5: x\n",
        r#"
job.yaml:15:7: spec.steps[0]: the key `5` is not a string
  |       5: x
  |       ^
  hint: put it in quotes: `"5"`

1 problem
"#,
    ),
    (
        "from: clicks\n",
        "from: clicks\n      [a]: x\n",
        r#"
job.yaml:15:7: spec.steps[0]: a list or mapping cannot be a field's name
  |       [a]: x
  |       ^
  hint: is a quote missing around text that starts with `{` or `[`?

1 problem
"#,
    ),
    (
        "spec:",
        "spec:\n  replicas: 99999999999999999999",
        r#"
job.yaml:5:13: spec.replicas: `99999999999999999999` is too large an integer: it takes more than 64 bits
  |   replicas: 99999999999999999999
  |             ^^^^^^^^^^^^^^^^^^^^

1 problem
"#,
    ),
    (
        "metadata: {name: clicks}\nspec:",
        "spec:\n  resources: {limits: {anything: 1}}\n  podTemplate: 5",
        r#"
job.yaml:1:1: metadata: required field is missing
  | apiVersion: streamjob.dev/v1alpha1
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: `metadata`: give the job a name: `metadata: {name: my-job}`

job.yaml:5:16: spec.podTemplate: expected an object, found the number 5
  |   podTemplate: 5
  |                ^

2 problems
"#,
    ),
]
