/// A condition that a recipe must meet, and the error message where it does not.
pub type Demand = (bool, &'static str);
