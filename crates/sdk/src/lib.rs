//! Filter traits and phase contexts, PluginDef.
