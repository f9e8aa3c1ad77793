// Queries of a panel, and what Prometheus answers as data frames with the panel's field config.
import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  dateTime,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  rangeUtil,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from "@grafana/data";
import { lastValueFrom } from "rxjs";

// `timeInterval` of the provisioned data source.
export const LEAST_STEP_S = 5;

// Grafana registers its transformations and field options when it starts; these are those that the
// dashboards use.
const TRANSFORMATIONS = ["organizeFieldsTransformer", "mergeTransformer", "groupingToMatrixTransformer"];
const OPTIONS = [
  ...["unit", "min", "max", "decimals", "noValue"],
  ...["thresholds", "mappings", "links", "color", "filterable"],
];

standardTransformersRegistry.setInit(() =>
  TRANSFORMATIONS.map((name) => ({
    id: standardTransformers[name].id,
    name,
    transformation: async () => standardTransformers[name],
  })),
);

function option(id, path, isCustom, process = identityOverrideProcessor) {
  return { id, path, isCustom, process, name: id, settings: {}, shouldApply: () => true };
}

// `custom` options are those of a kind of panel: here, all that this panel sets.
function optionsOf({ defaults, overrides }) {
  const set = overrides.flatMap(({ properties }) => properties.map(({ id }) => id));
  const custom = set.filter((id) => id.startsWith("custom.")).map((id) => id.slice("custom.".length));
  const names = new Set([...Object.keys(defaults.custom ?? {}), ...custom]);
  return new FieldConfigOptionsRegistry(() => [
    option("displayName", "displayName", false, displayNameOverrideProcessor),
    ...OPTIONS.map((id) => option(id, id, false)),
    ...[...names].map((name) => option(`custom.${name}`, name, true)),
  ]);
}

// `since`: such as "now-1h".
export function timeRange(since, end_s) {
  const span_s = rangeUtil.intervalToSeconds(since.replace("now-", ""));
  const from = dateTime((end_s - span_s) * 1000), to = dateTime(end_s * 1000);
  return { from, to, raw: { from, to } };
}

// Seconds between two points, as Grafana chooses them for a panel of this width in pixels.
function stepOf(panel, range, width) {
  const least = panel.interval ?? `${LEAST_STEP_S}s`;
  return rangeUtil.calculateInterval(range, panel.maxDataPoints ?? width, least).intervalMs / 1000;
}

async function ask(prometheus, path, parameters) {
  const body = new URLSearchParams(parameters);
  const answer = await (await fetch(`${prometheus}/api/v1/${path}`, { method: "POST", body })).json();
  if (answer.status !== "success") throw new Error(`${answer.error}: ${parameters.query}`);
  return answer.data.result;
}

function legend(format, labels) {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");
}

// `times`: all steps, in seconds. A step without a sample is null, which is drawn as a gap.
function seriesFrames(target, result, times) {
  return result.map(({ metric, values, value }) => {
    const sampled = new Map((values ?? [value]).map(([time, text]) => [time, Number(text)]));
    const { __name__, ...labels } = metric;
    const named = target.legendFormat !== "__auto";
    const name = named ? legend(target.legendFormat, labels) : "Value";
    const config = named ? { displayNameFromDS: name } : {};
    const found = times.map((time) => sampled.get(time) ?? null);
    return {
      refId: target.refId,
      length: times.length,
      fields: [
        { name: "Time", type: FieldType.time, config: {}, values: times.map((time) => time * 1000) },
        // The published graph takes the colour of its first line from `name`.
        { name, type: FieldType.number, config, labels, values: found },
      ],
    };
  });
}

function tableFrame(target, result, valueName) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name, type, valueOf) => ({ name, type, config: {}, values: result.map(valueOf) });
  return {
    refId: target.refId,
    length: result.length,
    fields: [
      column("Time", FieldType.time, ({ value }) => value[0] * 1000),
      ...labels.map((label) => column(label, FieldType.string, ({ metric }) => metric[label] ?? "")),
      column(valueName, FieldType.number, ({ value }) => Number(value[1])),
    ],
  };
}

async function answersOf(target, valueName, { prometheus, range, fill }, step_s) {
  const query = fill(target.expr, step_s);
  if (target.instant) {
    const time = range.to.valueOf() / 1000;
    const result = await ask(prometheus, "query", { query, time });
    if (target.format === "table") return [tableFrame(target, result, valueName)];
    return seriesFrames(target, result, [time]);
  }
  const [start, end] = [range.from, range.to].map((at) => Math.floor(at.valueOf() / 1000 / step_s) * step_s);
  const times = Array.from({ length: (end - start) / step_s + 1 }, (_, at) => start + at * step_s);
  const result = await ask(prometheus, "query_range", { query, start, end, step: step_s });
  return seriesFrames(target, result, times);
}

// Frames of a panel as its visualisation gets them, without empty ones. `context`: see draw.jsx.
export async function framesOf(panel, context, width) {
  const step_s = stepOf(panel, context.range, width);
  const tables = panel.targets.filter(({ format }) => format === "table").length;
  const valueName = (refId) => (tables > 1 ? `Value #${refId}` : "Value");
  const answers = await Promise.all(
    panel.targets.map((target) => answersOf(target, valueName(target.refId), context, step_s)),
  );
  const interpolate = (text) => context.fill(text, step_s);
  const transformed = await lastValueFrom(
    transformDataFrame(panel.transformations ?? [], answers.flat(), { interpolate }),
  );
  const frames = applyFieldOverrides({
    // What "merge" returns has its length in a getter, which the next transformation does not copy.
    data: transformed
      .map((frame) => ({ ...frame, length: frame.fields[0]?.values.length ?? 0 }))
      .filter(({ length }) => length > 0),
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: optionsOf(panel.fieldConfig),
    replaceVariables: interpolate,
    theme: context.theme,
    timeZone: "utc",
  });
  cacheFieldDisplayNames(frames);
  return frames;
}
