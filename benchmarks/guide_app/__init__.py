"""The guide's design, rebuilt to be measured against: a yield dependency, an ORM session, models in and out."""
