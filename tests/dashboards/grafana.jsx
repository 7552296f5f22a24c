// Draws a dashboard with Grafana's own libraries: @grafana/data has its transformations, field configuration and units, and
// @grafana/ui its panels. What Grafana adds to them and does not publish is here: the places of panels, and what of the options
// of a panel goes to which component.
import {
  applyFieldOverrides, createTheme, dateTime, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues, identityOverrideProcessor, Registry,
  standardTransformers, standardTransformersRegistry, stringOverrideProcessor, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import { examine } from './examine.js';

const { dashboard, answers, values, span, note, width, row } = window.DRAWN;
const COLUMN = width / 24;
const GAP = 8;
const theme = createTheme({ colors: { mode: 'light' } });
const replaceVariables = (text) => text.replace(/\$\{?(\w+)(:\w+)?\}?/g, (whole, name) => values[name] ?? whole);

// Variables are replaced in texts. How a panel draws is not for the field with the times.
const texts = ['displayName', 'noValue', 'axisLabel'];
const property = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path, process: texts.includes(path) ? stringOverrideProcessor : identityOverrideProcessor,
  settings: { expandTemplateVars: true }, shouldApply: (field) => !isCustom || field.type !== FieldType.time,
});
const properties = new Registry(() => [
  ...['unit', 'decimals', 'min', 'max', 'thresholds', 'mappings', 'color', 'displayName', 'noValue', 'links'].map((path) => property(path, false)),
  ...['drawStyle', 'lineWidth', 'lineInterpolation', 'lineStyle', 'fillOpacity', 'showPoints', 'axisLabel', 'stacking'].map((path) => property(path, true)),
  ...['cellOptions', 'minWidth', 'width'].map((path) => property(path, true)),
]);
const { mergeTransformer, organizeFieldsTransformer, sortByTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() =>
  [mergeTransformer, organizeFieldsTransformer, sortByTransformer].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation }))
);

// As Grafana's data source for Prometheus makes them.
function frames(panel, found) {
  return panel.targets.flatMap((target, index) => {
    const result = found[index];
    if (target.format !== 'table') {
      return result.map(([labels, points]) => {
        // A label that is not there is empty, unlike with renderLegendFormat of @grafana/data.
        const config = { displayNameFromDS: target.legendFormat.replace(/{{(\w+)}}/g, (_, name) => labels[name] ?? '') };
        const numbers = points.map(([, value]) => Number(value));
        return toDataFrame({
          refId: target.refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000) },
            { name: 'Value', type: FieldType.number, labels, config, values: numbers },
          ],
        });
      });
    }
    const names = [...new Set(result.flatMap(([labels]) => Object.keys(labels)))].sort();
    const value = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
    return [
      toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: result.map(() => span[1] * 1000) },
          ...names.map((name) => ({ name, type: FieldType.string, values: result.map(([labels]) => labels[name] ?? '') })),
          { name: value, type: FieldType.number, values: result.map(([, points]) => Number(points[0][1])) },
        ],
      }),
    ];
  });
}

function transformed(panel, data) {
  let result = data;
  transformDataFrame(panel.transformations ?? [], data, { interpolate: replaceVariables }).subscribe((frames) => (result = frames));
  return result;
}

function Body({ panel, found, width, height }) {
  const { fieldConfig, options } = panel;
  const data = applyFieldOverrides({ data: transformed(panel, frames(panel, found)), fieldConfig, fieldConfigRegistry: properties, replaceVariables, theme, timeZone: 'utc' });
  if (data.every((frame) => frame.length === 0)) {
    return <div className="no-data">{fieldConfig.defaults.noValue ?? 'No data'}</div>;
  }
  if (panel.type === 'timeseries') {
    const [from, to] = [dateTime(span[0] * 1000), dateTime(span[1] * 1000)];
    return <TimeSeries frames={data} width={width} height={height} timeRange={{ from, to, raw: { from, to } }} timeZone="utc" legend={options.legend} options={{}} />;
  }
  if (panel.type === 'table') {
    return <Table data={data[0]} width={width} height={height} />;
  }
  if (!['stat', 'bargauge'].includes(panel.type)) {
    throw new Error(`no component for ${panel.type}`);
  }
  const getValues = () => getFieldDisplayValues({ fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data, timeZone: 'utc' });
  const stat = panel.type === 'stat';
  const renderValue = ({ value, alignmentFactors, width, height, count }) =>
    stat ? (
      <BigValue theme={theme} value={value.display} text={options.text} alignmentFactors={alignmentFactors} width={width} height={height} count={count} colorMode={options.colorMode} graphMode={options.graphMode} textMode={options.textMode} justifyMode={options.justifyMode} wideLayout={options.wideLayout} />
    ) : (
      <BarGauge theme={theme} value={value.display} text={options.text} alignmentFactors={alignmentFactors} valueDisplayMode={options.valueMode} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} width={width} height={height} orientation={options.orientation} displayMode={options.displayMode} namePlacement={options.namePlacement} showUnfilled={options.showUnfilled} itemSpacing={8} lcdCellWidth={8} />
    );
  const sizes = stat ? { autoGrid: true, itemSpacing: 3 } : { minVizHeight: options.minVizHeight, minVizWidth: options.minVizWidth, maxVizHeight: options.maxVizHeight, itemSpacing: 8 };
  return <VizRepeater getValues={getValues} renderValue={renderValue} source={data} width={width} height={height} renderCounter={0} getAlignmentFactors={getDisplayValueAlignmentFactors} orientation={options.orientation} {...sizes} />;
}

function Panel({ panel, found }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * COLUMN, top: y * row };
  const title = replaceVariables(panel.title);
  if (panel.type === 'row') {
    return <h4 style={{ ...place, paddingTop: 8 }}>{title}</h4>;
  }
  return (
    <div style={place} className="panel" data-type={panel.type} data-title={title}>
      <PanelChrome title={title} description={replaceVariables(panel.description)} width={w * COLUMN - GAP} height={h * row - GAP}>
        {(width, height) => <Body panel={panel} found={found} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

// Text is measured before it is drawn, so its font has to be there first.
Promise.all(['400 14px Inter', '500 14px Inter'].map((font) => document.fonts.load(font))).then(() => {
  createRoot(document.getElementById('dashboard')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <h3>{dashboard.title}</h3>
      <p>{note}</p>
      <div style={{ position: 'relative' }}>
        {dashboard.panels.map((panel, index) => <Panel key={index} panel={panel} found={answers[index]} />)}
      </div>
    </ThemeContext.Provider>
  );
  setTimeout(() => examine(width), 2000);
});
