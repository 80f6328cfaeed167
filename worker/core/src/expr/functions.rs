//! The scalar functions that expressions may call: DataFusion's, without those whose result the arguments do not decide.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

/// Aggregate functions by the names they are called by.
pub(super) const AGGREGATES: [&str; 12] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "stddev",
    "stddev_samp",
    "approx_distinct",
    "approx_percentile_cont",
    "first_value",
    "last_value",
    "array_agg",
];

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(Functions::new);

/// Every function by name and alias, in DataFusion's terms.
pub(super) struct Functions {
    options: ConfigOptions,
    by_name: BTreeMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    pub fn get() -> &'static Self {
        &FUNCTIONS
    }

    fn new() -> Self {
        let mut by_name = BTreeMap::new();
        for function in datafusion_functions::all_default_functions() {
            for name in function
                .aliases()
                .iter()
                .map(String::as_str)
                .chain([function.name()])
            {
                by_name.insert(name.to_string(), function.clone());
            }
        }
        let mut options = ConfigOptions::default();
        options.sql_parser.enable_ident_normalization = false;
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(CoreFunctionPlanner::default()),
            Arc::new(UnicodeFunctionPlanner),
            Arc::new(DatetimeFunctionPlanner),
        ];
        Functions {
            options,
            by_name,
            planners,
        }
    }

    pub fn find(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.by_name.get(name)
    }

    /// Names that may be called, for "did you mean".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let usable = self
            .by_name
            .iter()
            .filter(|(_, function)| is_deterministic(function));
        usable.map(|(name, _)| name.as_str())
    }
}

/// Whether equal arguments always give the equal result.
pub(super) fn is_deterministic(function: &ScalarUDF) -> bool {
    function.signature().volatility == Volatility::Immutable
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there are no tables: {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.find(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.names().map(str::to_string).collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
}
