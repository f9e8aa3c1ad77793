// Draws one dashboard from its JSON with the components that Grafana publishes, so that people and
// tests see what Grafana shows; queries are answered by a Prometheus.
//
// Parameters of the address: board (of the JSON), prometheus (address), theme (dark, light),
// end_s (epoch), from (instead of the dashboard's own time), var-NAME (instead of all).
//
// Graphs, numbers and tables are Grafana's own. Timelines, status histories and heatmaps are in no
// published package: their values, names and colours are Grafana's, their geometry is this page's.
// Links, annotations, the variables' row and texts are not drawn.
import {
  createTheme,
  getDisplayValueAlignmentFactors,
  getFieldDisplayName,
  getFieldDisplayValues,
} from "@grafana/data";
import { initPluginTranslations } from "@grafana/i18n";
import { BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries, VizRepeater } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import { Component, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { LEAST_STEP_S, framesOf, timeRange } from "./frames.js";

// Grafana's grid in pixels, and the width below which it has one column.
const CELL = 30, GAP = 8, COLUMNS = 24, PADDING = 16, ONE_COLUMN = 769;
const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: asked.get("theme") } });

// For the program that takes pictures: by title of a panel, once it is drawn, the number of its
// frames and what went wrong.
window.drawn = {};

function Numbers({ panel, frames, width, height }) {
  const { options, fieldConfig } = panel;
  const values = getFieldDisplayValues({
    data: frames,
    fieldConfig,
    reduceOptions: options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    timeZone: "utc",
  });
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      source={frames}
      itemSpacing={3}
      width={width}
      height={height}
      renderCounter={0}
      autoGrid
      orientation={options.orientation}
      renderValue={({ value, ...place }) => (
        <BigValue
          {...place}
          value={value.display}
          theme={theme}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          disableWideLayout={!options.wideLayout}
        />
      )}
    />
  );
}

function Graph({ panel: { options }, range, ...shown }) {
  return <TimeSeries {...shown} timeRange={range} timeZone="utc" legend={options.legend} options={options} />;
}

function Table({ panel: { options, fieldConfig }, frames, width, height }) {
  return (
    <TableNG
      data={frames[options.frameIndex ?? 0] ?? frames[0]}
      width={width}
      height={height}
      sortBy={options.sortBy}
      noHeader={!options.showHeader}
      cellHeight={options.cellHeight}
      fieldConfig={fieldConfig}
      enableVirtualization={false}
    />
  );
}

function rowsOf(frames) {
  return frames.map((frame) => {
    const [{ values: times }, field] = frame.fields;
    return { name: getFieldDisplayName(field, frame, frames), times, field };
  });
}

function Cells({ rows, width, height, range }) {
  const start = range.from.valueOf(), span = range.to.valueOf() - start;
  return (
    <div style={{ width, height, overflow: "hidden" }}>
      {rows.map(({ name, times, cells }) => (
        <div key={name} style={{ display: "flex", height: height / rows.length, alignItems: "center" }}>
          <div style={{ width: "20%", overflow: "hidden", whiteSpace: "nowrap", fontSize: 12 }}>{name}</div>
          <div style={{ position: "relative", flex: 1, height: "90%", overflow: "hidden" }}>
            {cells.map(({ color, opacity }, at) => (
              <div
                key={at}
                style={{
                  position: "absolute",
                  height: "100%",
                  left: `${(100 * (times[at] - start)) / span}%`,
                  width: `${(100 * (times[1] - times[0])) / span}%`,
                  background: color,
                  opacity,
                }}
              />
            ))}
          </div>
        </div>
      ))}
    </div>
  );
}

function Timeline({ frames, ...place }) {
  const rows = rowsOf(frames).map(({ field, ...row }) => ({
    ...row,
    cells: field.values.map((value) => ({
      color: field.display(value).color,
      opacity: value === null ? 0 : 0.7,
    })),
  }));
  return <Cells {...place} rows={rows} />;
}

// Each bucket of Prometheus contains those below it; a row shows the requests of its bucket alone.
function Heatmap({ frames, ...place }) {
  const edge = ({ name }) => (name === "+Inf" ? Infinity : Number(name));
  const buckets = rowsOf(frames).sort((one, other) => edge(one) - edge(other));
  const counts = buckets.map(({ field }, at) =>
    field.values.map((count, step) => count - (buckets[at - 1]?.field.values[step] ?? 0)),
  );
  const most = Math.max(...counts.flat());
  const color = theme.visualization.getColorByName("orange");
  const rows = buckets.map((row, at) => ({
    ...row,
    cells: counts[at].map((count) => ({ color, opacity: Math.sqrt(Math.max(0, count) / most) })),
  }));
  return <Cells {...place} rows={rows.reverse()} />;
}

const DRAWINGS = {
  stat: Numbers,
  timeseries: Graph,
  table: Table,
  heatmap: Heatmap,
  "state-timeline": Timeline,
  "status-history": Timeline,
};

class Guard extends Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  componentDidCatch(error) {
    window.drawn[this.props.title] = { frames: 0, problem: String(error) };
  }
  render() {
    return this.state.error ? String(this.state.error) : this.props.children;
  }
}

function Content({ panel, title, context, width, height }) {
  const [frames, setFrames] = useState();
  const [problem, setProblem] = useState();
  useEffect(() => {
    framesOf(panel, context, width).then(setFrames, (error) => setProblem(String(error)));
  }, []);
  useEffect(() => {
    if (frames || problem) window.drawn[title] = { frames: frames?.length ?? 0, problem };
  }, [frames, problem]);
  if (problem) return problem;
  if (!frames) return null;
  // A number writes its own text for none.
  if (!frames.length && panel.type !== "stat") return panel.fieldConfig.defaults.noValue ?? "No data";
  const Drawing = DRAWINGS[panel.type];
  return <Drawing panel={panel} frames={frames} range={context.range} width={width} height={height} />;
}

// Places of all panels in pixels. Collapsed rows are drawn as open.
function layout(board, width) {
  const cell = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const places = [];
  let bottom = 0, shift = 0;
  const add = (panel) => {
    const { x, y, w, h } = panel.gridPos;
    const height = h * CELL + (h - 1) * GAP;
    const place = width < ONE_COLUMN
      ? { left: 0, top: bottom, width, height }
      : { left: x * (cell + GAP), top: (y + shift) * (CELL + GAP), width: w * (cell + GAP) - GAP, height };
    bottom = Math.max(bottom, place.top + height + GAP);
    places.push({ panel, place });
  };
  for (const panel of board.panels) {
    add(panel);
    (panel.panels ?? []).forEach(add);
    const last = panel.panels?.at(-1)?.gridPos;
    if (last) shift += last.y + last.h - panel.gridPos.y - 1;
  }
  return { places, bottom };
}

function Board({ board, context }) {
  const { places, bottom } = layout(board, innerWidth - 2 * PADDING);
  return (
    <div style={{ position: "relative", height: bottom, margin: PADDING }}>
      {places.map(({ panel, place }) => {
        const title = context.titleOf(panel);
        return (
          <div key={title} style={{ position: "absolute", ...place }} data-kind={panel.type}>
            {panel.type === "row" && <h6 style={{ paddingTop: 6 }}>{title}</h6>}
            {panel.type in DRAWINGS && (
              <PanelChrome
                title={title}
                description={panel.description}
                width={place.width}
                height={place.height}
                padding={panel.type === "table" ? "none" : "md"}
              >
                {(width, height) => (
                  <Guard title={title}>
                    <Content panel={panel} title={title} context={context} width={width} height={height} />
                  </Guard>
                )}
              </PanelChrome>
            )}
          </div>
        );
      })}
    </div>
  );
}

function replaced(text, values) {
  return text.replace(/\$(?:\{(\w+)(?::\w+)?\}|(\w+))/g, (whole, a, b) => values[a ?? b] ?? whole);
}

// What the panels share: titles, queries with their variables filled in, time and Prometheus.
function contextOf(board) {
  const range = timeRange(asked.get("from") ?? board.time.from, Number(asked.get("end_s")));
  const values = {}, words = {};
  for (const { name, current, allValue } of board.templating.list) {
    const value = [current.value].flat()[0];
    values[name] = asked.get(`var-${name}`) ?? (value === "$__all" ? allValue : value);
    words[name] = asked.get(`var-${name}`) ?? [current.text].flat()[0];
  }
  const fill = (text, step_s) =>
    replaced(text, {
      ...values,
      __interval: `${step_s}s`,
      __range: `${(range.to.valueOf() - range.from.valueOf()) / 1000}s`,
      __rate_interval: `${Math.max(step_s + LEAST_STEP_S, 4 * LEAST_STEP_S)}s`,
    });
  const titleOf = ({ title }) => replaced(title, words);
  return { prometheus: asked.get("prometheus"), range, theme, fill, titleOf };
}

async function start() {
  await initPluginTranslations("grafana");
  const board = await (await fetch(asked.get("board"))).json();
  const context = contextOf(board);
  document.title = board.title;
  const panels = board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  window.expected = panels.filter(({ type }) => type in DRAWINGS).map(context.titleOf);
  createRoot(document.body).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} context={context} />
    </ThemeContext.Provider>,
  );
}

start();
